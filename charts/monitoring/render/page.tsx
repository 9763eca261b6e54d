// A dashboard as Grafana's own components draw it, from the answers in answers.json.
import { DataFrame, dateTime, Field, getFieldDisplayName, getFieldDisplayValues, TimeRange } from '@grafana/data';
import { BigValue, GlobalStyles, PanelChrome, Table, ThemeContext, TimeSeries, VizRepeater } from '@grafana/ui';
import React from 'react';
import { createRoot } from 'react-dom/client';
import { framesOf, Shown, theme, timesOf } from './frames';

const COLUMNS = 24;
const ROW_HEIGHT = 30;
const GAP = 8;

interface Page {
  dashboard: any;
  panels: Shown[];
  span: { start: number; end: number; step: number };
  values: Record<string, string[]>;
}

function rangeOf({ span }: Page): TimeRange {
  const [from, to] = [dateTime(span.start * 1000), dateTime(span.end * 1000)];
  return { from, to, raw: { from, to } };
}

interface Viz {
  panel: any;
  frames: DataFrame[];
  width: number;
  height: number;
  range: TimeRange;
}

function Curves({ panel, frames, width, height, range }: Viz) {
  const legend = panel.options.legend;
  return <TimeSeries {...{ frames, width, height, legend, timeRange: range, timeZone: 'utc' }} />;
}

/** A trend panel: the one frame as it is, with its x field first. */
function Trend({ panel, frames, width, height, range }: Viz) {
  const frame = frames[0];
  const sorted = [...frame.fields].sort((a, b) => order(b, panel) - order(a, panel));
  const fields = sorted.map((field, fieldIndex) => ({
    ...field,
    state: { ...field.state, origin: { frameIndex: 0, fieldIndex } },
  }));
  const legend = panel.options.legend;
  const prepared = { ...frame, fields };
  return (
    <TimeSeries
      {...{ frames: [prepared], width, height, legend, timeRange: range, timeZone: 'utc' }}
      preparePlotFrame={() => prepared}
    />
  );
}

const order = (field: Field, panel: any) => (getFieldDisplayName(field) === panel.options.xField ? 1 : 0);

function Numbers({ panel, frames, width, height }: Viz) {
  const { options, fieldConfig } = panel;
  const values = () =>
    getFieldDisplayValues({
      fieldConfig: fieldConfig,
      reduceOptions: options.reduceOptions,
      replaceVariables: (text) => text,
      theme,
      data: frames,
      sparkline: options.graphMode !== 'none',
      percentChange: options.showPercentChange,
      timeZone: 'utc',
    } as any);
  return (
    <VizRepeater
      {...{ width, height, source: frames, renderCounter: 0, getValues: values, orientation: options.orientation }}
      renderValue={({ value, width, height, count }: any) => (
        <BigValue
          {...{ width, height, count, theme, value: value.display, sparkline: value.sparkline }}
          {...options}
          percentChangeColorMode={options.percentChangeColorMode}
        />
      )}
    />
  );
}

const KINDS: Record<string, (viz: Viz) => React.ReactElement> = {
  timeseries: Curves,
  trend: Trend,
  stat: Numbers,
  table: ({ frames, width, height }) => <Table {...{ data: frames[0], width, height }} />,
};

function Panel({ shown, frames, page, unit }: { shown: Shown; frames: DataFrame[]; page: Page; unit: number }) {
  const { panel } = shown;
  const { x, y, w, h } = panel.gridPos;
  const place = { position: 'absolute' as const, left: x * unit + GAP, top: y * (ROW_HEIGHT + GAP) };
  const [width, height] = [w * unit - GAP, h * (ROW_HEIGHT + GAP) - GAP];
  const empty = !frames.some((frame) => frame.length > 0);
  const Kind = KINDS[panel.type];
  return (
    <div style={place}>
      <PanelChrome title={panel.title} description={panel.description} width={width} height={height}>
        {(width, height) =>
          empty ? (
            <div style={{ textAlign: 'center' }}>No data</div>
          ) : (
            <Kind {...{ panel, frames, width, height, range: rangeOf(page) }} />
          )
        }
      </PanelChrome>
    </div>
  );
}

function Heading({ row }: { row: any }) {
  const place = { position: 'absolute' as const, left: 2 * GAP, top: row.gridPos.y * (ROW_HEIGHT + GAP) };
  return <h5 style={{ ...place, lineHeight: `${ROW_HEIGHT}px`, margin: 0 }}>⌄ {row.title}</h5>;
}

function Dashboard({ page, frames }: { page: Page; frames: DataFrame[][] }) {
  const unit = (window.innerWidth - GAP) / COLUMNS;
  const rows = page.dashboard.panels.filter((panel: any) => panel.type === 'row');
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div style={{ position: 'relative' }}>
        {rows.map((row: any) => (
          <Heading key={row.id} row={row} />
        ))}
        {page.panels.map((shown, index) => (
          <Panel key={index} {...{ shown, frames: frames[index], page, unit }} />
        ))}
      </div>
    </ThemeContext.Provider>
  );
}

async function draw() {
  const page: Page = await (await fetch('answers.json')).json();
  const frames = await Promise.all(page.panels.map((shown) => framesOf(shown, timesOf(page.span))));
  createRoot(document.getElementById('root')!).render(<Dashboard {...{ page, frames }} />);
}

void draw();
