import { LabIcon } from '@jupyterlab/ui-components';

/** Stacked bars in the theme's icon colour. */
export const ledgerIcon = new LabIcon({
  name: 'eai-notebook:ledger',
  svgstr: `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24">
  <g class="jp-icon3" fill="#616161">
    <path d="M4 13h4v7H4zM10 9h4v11h-4zM16 12h4v8h-4z"/>
    <path opacity=".5" d="M4 8h4v4H4zM10 5h4v3h-4zM16 4h4v7h-4z"/>
  </g>
</svg>`
});
