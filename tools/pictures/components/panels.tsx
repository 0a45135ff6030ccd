// Each kind of panel, drawn with the component of Grafana's that it is made of.
import {
  type DataFrame, type FieldDisplay, getDisplayValueAlignmentFactors, getFieldDisplayValues,
  type GrafanaTheme2, renderTextPanelMarkdown, type TimeRange, VizOrientation,
} from '@grafana/data';
import {
  BarGauge, BarGaugeDisplayMode, BigValue, BigValueGraphMode, BigValueJustifyMode,
  BigValueTextMode, TimeSeries, VizRepeater, type VizRepeaterRenderValueProps,
} from '@grafana/ui';
import { BarGaugeNamePlacement } from '@grafana/schema';
import { TableNG } from '@grafana/ui/unstable';
import type { ReactNode } from 'react';
import type { Panel } from './page';

export interface Space {
  panel: Panel;
  frames: DataFrame[];
  width: number;
  height: number;
  range: TimeRange;
  theme: GrafanaTheme2;
}

const SPACING = 8;

/** What stands in a panel that has nothing to show. */
function Said({ width, height, theme, children }: Omit<Space, 'panel' | 'frames' | 'range'> & { children: ReactNode }) {
  return (
    <div style={{ width, height, display: 'grid', placeItems: 'center', textAlign: 'center', color: theme.colors.text.secondary }}>
      <div>{children}</div>
    </div>
  );
}

function values({ panel, frames, theme }: Space, sparkline: boolean): FieldDisplay[] {
  return getFieldDisplayValues({
    data: frames,
    fieldConfig: panel.fieldConfig,
    reduceOptions: panel.options.reduceOptions,
    replaceVariables: (text: string) => text,
    sparkline,
    theme,
    timeZone: 'utc',
  });
}

function Stat(space: Space) {
  const { panel, width, height, theme } = space;
  const all = values(space, true);
  const several = all.length > 1;
  // A name that says nothing is left out, as Grafana does it.
  const mode = panel.options.textMode === 'auto' && !several ? BigValueTextMode.Value : panel.options.textMode;
  const one = ({ value, ...place }: VizRepeaterRenderValueProps<FieldDisplay>) => (
    <BigValue
      value={value.display}
      sparkline={(value.sparkline?.y.values.length ?? 0) > 1 ? value.sparkline : undefined}
      count={place.count}
      colorMode={panel.options.colorMode}
      graphMode={panel.options.graphMode ?? BigValueGraphMode.None}
      justifyMode={BigValueJustifyMode.Auto}
      textMode={mode}
      width={place.width}
      height={place.height}
      theme={theme}
    />
  );
  return (
    <VizRepeater
      getValues={() => all} renderValue={one} source={all} renderCounter={0} autoGrid
      orientation={VizOrientation.Auto} width={width} height={height} itemSpacing={several ? 3 : SPACING}
    />
  );
}

function Bars(space: Space) {
  const { panel, width, height, theme } = space;
  const all = values(space, false);
  // Grafana's packages have bars and no round gauge: that is drawn as one bar, without a name.
  const round = panel.type === 'gauge';
  const one = ({ value, alignmentFactors, ...place }: VizRepeaterRenderValueProps<FieldDisplay, any>) => (
    <BarGauge
      value={value.display}
      field={value.field}
      display={value.view?.getFieldDisplayProcessor(value.colIndex!)}
      alignmentFactors={alignmentFactors}
      displayMode={round ? BarGaugeDisplayMode.Gradient : panel.options.displayMode}
      orientation={place.orientation}
      namePlacement={round ? BarGaugeNamePlacement.Hidden : panel.options.namePlacement}
      text={round ? { valueSize: 28 } : undefined}
      valueDisplayMode={panel.options.valueMode}
      showUnfilled
      itemSpacing={SPACING}
      lcdCellWidth={12}
      width={place.width}
      height={place.height}
      theme={theme}
    />
  );
  const high = round ? Math.min(height, 60) : height;
  return (
    <div style={{ height, display: 'flex', alignItems: 'center' }}>
      <VizRepeater
        getValues={() => all} getAlignmentFactors={getDisplayValueAlignmentFactors} renderValue={one} source={all}
        renderCounter={0} width={width} height={high} itemSpacing={SPACING} minVizHeight={16} maxVizHeight={300}
        orientation={panel.options.orientation === 'auto' ? VizOrientation.Horizontal : panel.options.orientation}
      />
    </div>
  );
}

function Lines({ panel, frames, width, height, range }: Space) {
  return (
    <TimeSeries
      frames={frames} structureRev={1} width={width} height={height} timeRange={range} timeZone="utc"
      legend={panel.options.legend} options={panel.options}
    />
  );
}

function Table({ panel, frames, width, height }: Space) {
  return (
    <TableNG
      data={frames[0]} width={width} height={height} cellHeight={panel.options.cellHeight} sortBy={panel.options.sortBy}
      enableVirtualization={false} structureRev={1} fieldConfig={panel.fieldConfig as any}
    />
  );
}

function Text({ panel }: Space) {
  return <div className="markdown-html" dangerouslySetInnerHTML={{ __html: renderTextPanelMarkdown(panel.options.content) }} />;
}

const KINDS: Record<string, (space: Space) => ReactNode> = {
  stat: Stat, gauge: Bars, bargauge: Bars, timeseries: Lines, table: Table, text: Text,
};
// They say for themselves that they have nothing, which for a number can be a good thing.
const SAY_THEMSELVES = ['stat', 'gauge', 'bargauge', 'text'];

export function Content(space: Space) {
  const { panel, frames } = space;
  const Kind = KINDS[panel.type];
  if (!Kind) {
    return <Said {...space}>Not drawn here: Grafana has no package with its {panel.type.replace('-', ' ')}</Said>;
  }
  if (!frames.some(({ length }) => length > 0) && !SAY_THEMSELVES.includes(panel.type)) {
    return <Said {...space}>{panel.fieldConfig.defaults.noValue ?? 'No data'}</Said>;
  }
  return <Kind {...space} />;
}
