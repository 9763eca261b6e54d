// The frames of every panel in the answers at standard input, as JSON: what a test compares with the run's own diary.
import { getFieldDisplayName } from '@grafana/data';
import { readFileSync } from 'node:fs';
import { framesOf, timesOf } from './frames';

const page = JSON.parse(readFileSync(0, 'utf8'));
const all = await Promise.all(page.panels.map((shown: any) => framesOf(shown, timesOf(page.span))));
const plain = all.map((frames) =>
  frames.map((frame) => frame.fields.map((field) => ({ name: getFieldDisplayName(field, frame), values: [...field.values] })))
);
process.stdout.write(JSON.stringify(plain));
