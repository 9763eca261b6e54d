// From what Prometheus answers to the data frames that Grafana's panels take, transformations and overrides included.
import {
  applyFieldOverrides,
  createTheme,
  DataFrame,
  Field,
  FieldConfigOptionsRegistry,
  FieldType,
  identityOverrideProcessor,
  standardTransformers,
  standardTransformersRegistry,
  toDataFrame,
  transformDataFrame,
} from '@grafana/data';
import { lastValueFrom } from 'rxjs';

export interface Series {
  metric: Record<string, string>;
  values: Array<[number, string]>;
}

export interface Shown {
  panel: any;
  answers: Record<string, Series[]>;
}

export const theme = createTheme({ colors: { mode: 'dark' } });

const transformers = new Map(Object.values(standardTransformers).map((each) => [each.id, each]));
standardTransformersRegistry.setInit(() =>
  [...transformers.values()].map((transformation) => ({
    id: transformation.id,
    name: transformation.name,
    transformation: transformation as any,
    editor: () => null,
  }))
);

const PROPERTIES = [
  ...['unit', 'decimals', 'min', 'max', 'thresholds', 'mappings', 'color', 'displayName'].map((id) => ({ id, path: id })),
  ...['lineStyle', 'cellOptions', 'width'].map((name) => ({ id: `custom.${name}`, path: name, isCustom: true })),
];
const properties = new FieldConfigOptionsRegistry(() =>
  PROPERTIES.map((property) => ({
    ...property,
    name: property.id,
    editor: () => null,
    override: () => null,
    process: identityOverrideProcessor,
    shouldApply: () => true,
  })) as any
);

/** The points of time that a question about a span asks for, in milliseconds. */
export function timesOf({ start, end, step }: { start: number; end: number; step: number }): number[] {
  const count = Math.floor((end - start) / step + 1e-6) + 1;
  return Array.from({ length: count }, (_, index) => Math.round((start + index * step) * 1000));
}

/** A number as Prometheus writes it; what is none is a gap. */
function number(text: string): number | null {
  const value = Number(text);
  return Number.isFinite(value) ? value : null;
}

/** The legend's text with {{label}} filled in. */
function legend(format: string, labels: Record<string, string>): string {
  return format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => labels[label] ?? '');
}

/** One frame for each series, on a common grid of times so that what is missing is a gap. */
function seriesFrames(target: any, series: Series[], times: number[]): DataFrame[] {
  return series.map(({ metric, values }) => {
    const at = new Map(values.map(([time, text]) => [Math.round(time * 1000), number(text)]));
    const name = legend(target.legendFormat, metric);
    return toDataFrame({
      refId: target.refId,
      fields: [
        { name: 'Time', type: FieldType.time, values: times },
        {
          name: 'Value',
          type: FieldType.number,
          labels: metric,
          values: times.map((time) => at.get(time) ?? null),
          config: { displayNameFromDS: name },
        },
      ],
    });
  });
}

/** The points of time that an answer about one moment has. */
function instants(series: Series[]): number[] {
  return [...new Set(series.flatMap(({ values }) => values.map(([time]) => Math.round(time * 1000))))];
}

/** One frame with a row for each value: time, labels, value. */
function tableFrame(target: any, series: Series[]): DataFrame {
  const rows = series.flatMap(({ metric, values }) =>
    values.map(([time, text]) => ({ time: Math.round(time * 1000), metric, value: number(text) }))
  );
  const labels = [...new Set(series.flatMap(({ metric }) => Object.keys(metric)))].sort();
  return toDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: rows.map((row) => row.time) },
      ...labels.map((label) => ({
        name: label,
        type: FieldType.string,
        values: rows.map((row) => row.metric[label] ?? ''),
      })),
      { name: `Value #${target.refId}`, type: FieldType.number, values: rows.map((row) => row.value) },
    ],
  });
}

/** What a panel draws. */
export async function framesOf({ panel, answers }: Shown, times: number[]): Promise<DataFrame[]> {
  const asked: DataFrame[] = panel.targets.flatMap((target: any) => {
    const series = answers[target.refId];
    if (target.format === 'table') {
      return series.length > 0 ? [tableFrame(target, series)] : [];
    }
    return seriesFrames(target, series, target.instant ? instants(series) : times);
  });
  const context = { interpolate: (text: string) => text };
  const made = await lastValueFrom(transformDataFrame(panel.transformations ?? [], asked, context));
  const { defaults, overrides } = panel.fieldConfig;
  const complete = made.map((frame) => ({
    ...frame,
    fields: frame.fields.map((field: Field) => ({
      ...field,
      config: { ...field.config, custom: { ...defaults.custom } },
    })),
  }));
  return applyFieldOverrides({
    data: complete,
    fieldConfig: { defaults, overrides },
    replaceVariables: (text) => text,
    theme,
    timeZone: 'utc',
    fieldConfigRegistry: properties,
  });
}
