/**
 * Ranks down, steps across, on one canvas: how long each rank was busy by itself.
 *
 * The kernel sends one byte a cell, so 64 ranks cost ten kilobytes; a cell becomes one
 * pixel of a small picture that the browser enlarges. `eai_notebook/display/heat_map.py` does
 * the same for the saved notebook.
 */
import type { Range, View } from './types';
import { shownSteps } from './axis';
import { ms } from './formatting';
import { type Row, rowCells } from './rankRows';
import { HEAT_ROW, HEAT_SCALE, LEAST_HEAT, MOST_HEAT, MOST_PIXELS } from './generated';

export class HeatMap {
  constructor() {
    this._title.className = 'eai-Heat-title';
    this._canvas.setAttribute('role', 'img');
    this._canvas.className = 'eai-Heat-canvas';
    this.node.className = 'eai-Heat';
    this.node.append(this._title, this._canvas);
    this._canvas.addEventListener('pointermove', event => {
      this._describe(event.offsetX, event.offsetY);
    });
    this._canvas.addEventListener('pointerleave', () => {
      this._entitle();
    });
  }

  readonly node = document.createElement('div');

  /** Draw the cells of the steps that are shown. */
  draw(view: View, rows: readonly Row[], range: Range | null): void {
    const { heat, ranks } = view;
    this._view = view;
    this._rows = rows;
    this.node.hidden = ranks.length < 2 || heat.columns === 0 || heat.low_ms === null;
    if (this.node.hidden) {
      return;
    }
    const { first, span } = shownSteps(view.buckets, range);
    const last = view.buckets.stop.at(-1) ?? first;
    const drawn = `${heat.cells} ${rows.map(row => row.members.join()).join(' ')}`;
    if (drawn !== this._drawn) {
      this._drawn = drawn;
      this._cells = rowCells(rows, decode(heat.cells), heat.columns);
      const fold = Math.max(1, Math.floor(heat.width / view.buckets.width));
      this._starts = view.buckets.step.filter((_, place) => place % fold === 0);
      this._paint(Math.min(last - first, MOST_PIXELS), rows.length);
    }
    // A column stands below the bars of the same steps.
    this._canvas.style.width = `calc((100% - var(--eai-scale)) * ${(last - first) / span})`;
    this._canvas.style.height = `${Math.max(LEAST_HEAT, Math.min(MOST_HEAT, HEAT_ROW * rows.length))}px`;
    this._entitle();
  }

  /** The column of the cells that stands for what lies `share` along the picture. */
  private _columnAt(share: number): number {
    const { buckets, heat } = this._view ?? {};
    const first = buckets?.step[0] ?? 0;
    const step = first + share * ((buckets?.stop.at(-1) ?? first) - first);
    const after = this._starts.findIndex(start => start > step);
    return (after < 0 ? (heat?.columns ?? this._starts.length) : after) - 1;
  }

  private _paint(wide: number, tall: number): void {
    this._canvas.width = wide;
    this._canvas.height = tall;
    const pen = this._canvas.getContext('2d');
    if (pen === null) {
      return;
    }
    const picture = pen.createImageData(wide, tall);
    const columns = this._view?.heat.columns ?? 0;
    for (let x = 0; x < wide; x++) {
      const column = this._columnAt((x + 0.5) / wide);
      for (let row = 0; row < tall; row++) {
        const value = this._cells[row * columns + column] ?? 0;
        if (value > 0) {
          picture.data.set(PALETTE.subarray(4 * value, 4 * value + 4), 4 * (row * wide + x));
        }
      }
    }
    pen.putImageData(picture, 0, 0);
  }

  private _entitle(): void {
    if (this._view === null) {
      return;
    }
    const { low_ms: low, high_ms: high } = this._view.heat;
    const bar = document.createElement('span');
    bar.className = 'eai-Heat-scale';
    bar.style.background = `linear-gradient(to right, ${HEAT_SCALE.join(', ')})`;
    const ends = `${ms(low ?? 0)} to ${ms(high ?? 0)}`;
    this._title.replaceChildren('own time ', bar, ` ${ends}`);
    this._canvas.setAttribute(
      'aria-label',
      `Own time of ${this._view.ranks.length} ranks over the steps, dark to light: ${ends}`
    );
  }

  /** Show the numbers of the cell under the pointer. */
  private _describe(x: number, y: number): void {
    const view = this._view;
    if (view === null) {
      return;
    }
    const { columns, low_ms: low, high_ms: high } = view.heat;
    const column = this._columnAt(x / this._canvas.clientWidth);
    const row = Math.floor((y / this._canvas.clientHeight) * this._rows.length);
    const value = this._cells[row * columns + column] ?? 0;
    const pointed = this._rows[row];
    if (pointed === undefined) {
      return;
    }
    const first = this._starts[column] ?? 0;
    const last = (this._starts[column + 1] ?? view.buckets.stop.at(-1) ?? first + 1) - 1;
    const steps = last <= first ? `step ${first}` : `steps ${first}–${last}`;
    const length = (low ?? 0) + ((value - 1) / 254) * ((high ?? 0) - (low ?? 0));
    const edge = value === 255 ? 'at least ' : value === 1 ? 'at most ' : '';
    const figure = value === 0 ? 'not measured' : `${edge}${ms(length)}`;
    const label = pointed.isHost ? `slowest rank of ${pointed.name}` : pointed.name;
    this._title.textContent = `${label}, ${steps}: ${figure}`;
  }

  private _view: View | null = null;
  private _drawn = '';
  private _rows: readonly Row[] = [];
  private _cells: Uint8Array = new Uint8Array();
  /** The first step of each column. */
  private _starts: number[] = [];
  private readonly _title = document.createElement('div');
  private readonly _canvas = document.createElement('canvas');
}

/** Red, green, blue and alpha of each byte. */
const PALETTE = Uint8Array.from({ length: 4 * 256 }, (_, place) => {
  const channel = place % 4;
  const along = (Math.max(0, Math.floor(place / 4) - 1) / 254) * (HEAT_SCALE.length - 1);
  const below = Math.min(Math.floor(along), HEAT_SCALE.length - 2);
  const at = (colour: number): number =>
    parseInt((HEAT_SCALE[colour] ?? '').slice(1 + 2 * channel, 3 + 2 * channel), 16);
  return channel === 3
    ? 255
    : Math.round(at(below) + (at(below + 1) - at(below)) * (along - below));
});

function decode(base64: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(base64), letter => letter.charCodeAt(0));
}
