/**
 * Ranks down, steps across, on one canvas: how long each rank was busy by itself.
 *
 * The kernel sends one byte a cell, so 64 ranks cost ten kilobytes; a cell becomes one
 * pixel of a small picture that the browser enlarges. `eai_notebook/display/heat_map.py` does
 * the same for the saved notebook.
 */
import type { View } from './types';
import { ms } from './formatting';

/** A short run leaves room to the right instead of drawing bars as wide as a hand. */
export const FEWEST_SLOTS = 48;
const SCALE = ['#00204c', '#575c6d', '#a69d75', '#ffe945'];
/** Height of a rank's row, and the most that all of them take, in pixels. */
const ROW = 6;
const LEAST = 40;
const MOST = 200;

export class HeatMap {
  constructor() {
    this._title.className = 'eai-Heat-title';
    this._canvas.setAttribute('role', 'img');
    this._canvas.className = 'eai-Heat-canvas';
    this.node.className = 'eai-Heat';
    this.node.append(this._title, this._canvas);
    this._canvas.addEventListener('pointermove', event => {
      this._tell(event.offsetX, event.offsetY);
    });
    this._canvas.addEventListener('pointerleave', () => {
      this._entitle();
    });
  }

  readonly node = document.createElement('div');

  draw(view: View): void {
    const { heat, ranks } = view;
    this._view = view;
    this.node.hidden = ranks.length < 2 || heat.columns === 0 || heat.low_ms === null;
    if (this.node.hidden) {
      return;
    }
    if (heat.cells !== this._drawn) {
      this._drawn = heat.cells;
      this._paint(heat.columns, ranks.length, decode(heat.cells));
    }
    // A column stands below the bars of the same steps.
    const slots = Math.max(view.buckets.step.length, FEWEST_SLOTS) * view.buckets.width;
    const wide = Math.min(1, (heat.columns * heat.width) / slots);
    this._canvas.style.width = `calc((100% - var(--eai-scale)) * ${wide})`;
    this._canvas.style.height = `${Math.max(LEAST, Math.min(MOST, ROW * ranks.length))}px`;
    this._entitle();
  }

  private _paint(wide: number, tall: number, cells: Uint8Array<ArrayBuffer>): void {
    this._cells = cells;
    this._canvas.width = wide;
    this._canvas.height = tall;
    const pen = this._canvas.getContext('2d');
    if (pen === null) {
      return;
    }
    const picture = pen.createImageData(wide, tall);
    cells.forEach((value, cell) => {
      if (value > 0) {
        picture.data.set(PALETTE.subarray(4 * value, 4 * value + 4), 4 * cell);
      }
    });
    pen.putImageData(picture, 0, 0);
  }

  private _entitle(): void {
    if (this._view === null) {
      return;
    }
    const { low_ms: low, high_ms: high } = this._view.heat;
    const bar = document.createElement('span');
    bar.className = 'eai-Heat-scale';
    bar.style.background = `linear-gradient(to right, ${SCALE.join(', ')})`;
    const ends = `${ms(low ?? 0)} to ${ms(high ?? 0)}`;
    this._title.replaceChildren('each rank’s own time ', bar, ` ${ends}`);
    this._canvas.setAttribute(
      'aria-label',
      `Own time of ${this._view.ranks.length} ranks over the steps, dark to light: ${ends}`
    );
  }

  /** Tell the cell under the pointer in numbers. */
  private _tell(x: number, y: number): void {
    const view = this._view;
    if (view === null) {
      return;
    }
    const { columns, width, low_ms: low, high_ms: high } = view.heat;
    const column = Math.floor((x / this._canvas.clientWidth) * columns);
    const row = Math.floor((y / this._canvas.clientHeight) * view.ranks.length);
    const value = this._cells[row * columns + column] ?? 0;
    const rank = view.ranks[row];
    if (rank === undefined) {
      return;
    }
    const first = column * width;
    const steps = width === 1 ? `step ${first}` : `steps ${first}-${first + width - 1}`;
    const length = (low ?? 0) + ((value - 1) / 254) * ((high ?? 0) - (low ?? 0));
    const edge = value === 255 ? 'at least ' : value === 1 ? 'at most ' : '';
    const told = value === 0 ? 'not measured' : `${edge}${ms(length)}`;
    this._title.textContent = `rank ${rank.rank}, ${steps}: ${told}`;
  }

  private _view: View | null = null;
  private _drawn = '';
  private _cells = new Uint8Array();
  private readonly _title = document.createElement('div');
  private readonly _canvas = document.createElement('canvas');
}

/** Red, green, blue and alpha of each byte. */
const PALETTE = Uint8Array.from({ length: 4 * 256 }, (_, place) => {
  const channel = place % 4;
  const along = (Math.max(0, Math.floor(place / 4) - 1) / 254) * (SCALE.length - 1);
  const below = Math.min(Math.floor(along), SCALE.length - 2);
  const at = (colour: number): number =>
    parseInt((SCALE[colour] ?? '').slice(1 + 2 * channel, 3 + 2 * channel), 16);
  return channel === 3
    ? 255
    : Math.round(at(below) + (at(below + 1) - at(below)) * (along - below));
});

function decode(base64: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(base64), letter => letter.charCodeAt(0));
}
