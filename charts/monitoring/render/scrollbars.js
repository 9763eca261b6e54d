// Grafana's modules import the default of this CommonJS package as Node does: that is the whole package, no component.
export { Scrollbars as default, Scrollbars } from '../node_modules/react-custom-scrollbars-2/lib/index.js';
