// Units, thresholds, mappings and overrides of a panel, put to its fields by Grafana's own code.
import {
  applyFieldOverrides, cacheFieldDisplayNames, type DataFrame, FieldConfigOptionsRegistry, type GrafanaTheme2,
  standardTransformers, standardTransformersRegistry, transformDataFrame,
} from '@grafana/data';
import { firstValueFrom } from 'rxjs';
import type { Panel } from './page';

// What every kind of panel has; the `custom` ones are those that the panel names.
const COMMON = [
  'unit', 'min', 'max', 'decimals', 'displayName', 'noValue', 'color', 'thresholds', 'mappings',
];

standardTransformersRegistry.setInit(() =>
  [standardTransformers.mergeTransformer, standardTransformers.organizeFieldsTransformer].map(
    (transformer) => ({ ...transformer, transformation: async () => transformer, imageDark: '', imageLight: '' }),
  ) as any,
);

function registry(panel: Panel) {
  const { defaults, overrides } = panel.fieldConfig;
  const overridden = overrides.flatMap(({ properties }) => properties.map(({ id }) => id));
  const custom = Object.keys(defaults.custom ?? {}).map((key) => `custom.${key}`);
  const ids = new Set([...COMMON, ...custom, ...overridden.filter((id) => id !== 'links')]);
  return new FieldConfigOptionsRegistry(() =>
    [...ids].map((id) => ({
      id,
      path: id.replace(/^custom\./, ''),
      isCustom: id.startsWith('custom.'),
      name: id,
      process: (value: unknown) => value,
      shouldApply: () => true,
    })) as any,
  );
}

/** A threshold without a value begins below everything; JSON has no word for that. */
function withFirstSteps(value: any): any {
  if (Array.isArray(value)) {
    return value.map(withFirstSteps);
  }
  if (value && typeof value === 'object') {
    const found = Object.fromEntries(Object.entries(value).map(([key, of]) => [key, withFirstSteps(of)]));
    for (const step of Array.isArray(found.steps) ? found.steps : []) {
      step.value ??= -Infinity;
    }
    return found;
  }
  return value;
}

export async function shown(panel: Panel, found: DataFrame[], theme: GrafanaTheme2): Promise<DataFrame[]> {
  const context = { interpolate: (text: string) => text };
  const joined = await firstValueFrom(transformDataFrame(panel.transformations ?? [], found, context));
  const given = applyFieldOverrides({
    data: joined,
    fieldConfig: withFirstSteps(panel.fieldConfig),
    fieldConfigRegistry: registry(panel),
    replaceVariables: (text) => text,
    theme,
    timeZone: 'utc',
  });
  // Colours by name and the heads of tables go by these.
  cacheFieldDisplayNames(given);
  return given;
}
