// What Prometheus answered, as the data frames that Grafana's data source makes of it.
import { type DataFrame, FieldType, toDataFrame } from '@grafana/data';
import type { Answer, Panel, Series, Target } from './page';

/** One frame for each series, named by the target's legend. */
function ofSeries(target: Target, series: Series, step: number): DataFrame {
  const samples = series.values ?? [series.value!];
  const name = named(target.legendFormat ?? '', series.metric);
  return toDataFrame({
    refId: target.refId,
    fields: [
      {
        name: 'Time',
        type: FieldType.time,
        values: samples.map(([seconds]) => seconds * 1000),
        // Where a sample is missing the line has a gap.
        config: { interval: step * 1000 },
      },
      {
        name: 'Value',
        type: FieldType.number,
        labels: series.metric,
        values: samples.map(([, value]) => number(value)),
        config: { displayNameFromDS: name },
      },
    ],
  });
}

/** One frame with a column for each label: what `format: table` asks for. */
function ofTable(target: Target, answer: Answer, alone: boolean): DataFrame {
  const labels = [...new Set(answer.flatMap((series) => Object.keys(series.metric)))].sort();
  return toDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: answer.map(({ value }) => value![0] * 1000) },
      ...labels.map((label) => ({
        name: label,
        type: FieldType.string,
        values: answer.map(({ metric }) => metric[label] ?? ''),
      })),
      {
        name: alone ? 'Value' : `Value #${target.refId}`,
        type: FieldType.number,
        values: answer.map(({ value }) => number(value![1])),
      },
    ],
  });
}

export function frames(panel: Panel, step: number): DataFrame[] {
  const targets = panel.targets ?? [];
  return targets.flatMap((target) => {
    const answer = panel.answers[target.refId];
    if (target.format === 'table') {
      return answer.length ? [ofTable(target, answer, targets.length === 1)] : [];
    }
    return answer.map((series) => ofSeries(target, series, step));
  });
}

function named(legend: string, labels: Record<string, string>): string {
  if (legend === '__auto') {
    const { __name__: family = '', ...others } = labels;
    const pairs = Object.entries(others).map(([label, value]) => `${label}="${value}"`);
    return pairs.length || !family ? `${family}{${pairs.join(', ')}}` : family;
  }
  return legend.replace(/\{\{\s*(.+?)\s*\}\}/g, (_, label) => labels[label] ?? label);
}

function number(text: string): number | null {
  const infinities: Record<string, number> = { '+Inf': Infinity, '-Inf': -Infinity };
  const value = infinities[text] ?? Number(text);
  return Number.isNaN(value) ? null : value;
}
