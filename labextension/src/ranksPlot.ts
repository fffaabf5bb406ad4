/** The bars of the ranks: what each spent its time on, a mean over the steps that are shown. */
import type { View } from './types';
import { MOST_THICK, RANKS_HEIGHT } from './generated';
import { canvas, element, placed, prepare } from './drawing';
import { fill } from './partPattern';
import { ms, sum } from './formatting';
import type { Row } from './rankRows';

export class RanksPlot {
  /** `onFold` is called with the host whose ranks are to be shown or hidden. */
  constructor(onFold: (host: string) => void) {
    this._onFold = onFold;
    this._labels = element('div', 'eai-Chart-labels');
    this.canvas = canvas('Time of each part on each rank');
    this._lengths = element('div', 'eai-Chart-lengths');
    this.node = element('div', 'eai-Chart-ranks', this._labels, this.canvas, this._lengths);
  }

  readonly node: HTMLElement;
  readonly canvas: HTMLCanvasElement;

  /** The row whose bar is so many pixels from the top. */
  rowAt(y: number): Row | undefined {
    return this._rows[Math.floor(y / pitch(this._rows.length).row)];
  }

  draw(view: View, rows: readonly Row[], isWide: boolean): void {
    this._rows = rows;
    const longest = Math.max(...rows.map(each => sum(each.ms)), 1e-9);
    const { row, thick } = pitch(rows.length);
    this._fillLabels(row, isWide);
    this.canvas.style.height = `${row * rows.length}px`;
    const wide = this.canvas.clientWidth;
    const pen = prepare(this.canvas, wide, row * rows.length);
    const fills = view.parts.map(part => fill(pen, part));
    rows.forEach((each, position) => {
      let left = 0;
      each.ms.forEach((value, part) => {
        const right = left + (value ?? 0);
        const from = Math.round((wide * left) / longest);
        pen.fillStyle = fills[part] ?? '';
        pen.fillRect(from, position * row, Math.round((wide * right) / longest) - from, thick);
        left = right;
      });
    });
  }

  private _fillLabels(row: number, isWide: boolean): void {
    const rows = this._rows;
    const many = rows.length > MOST_THICK;
    const every = many ? Math.max(8, Math.floor(rows.length / 8)) : 1;
    const line = (each: Row, position: number, text: string): HTMLElement => {
      const isFolding = each.folds !== '' && text === each.label;
      const tag = isFolding ? 'button' : 'div';
      const label = placed(tag, 'top', `${position * row + (row - 1) / 2}px`, text);
      label.classList.toggle('eai-mod-named', each.isNamed);
      if (isFolding) {
        label.setAttribute('aria-expanded', String(text.startsWith('▾')));
        label.addEventListener('click', () => {
          this._onFold(each.folds);
        });
      }
      return label;
    };
    this._labels.classList.toggle('eai-mod-hosts', isWide);
    const labels = rows.flatMap((each, position) =>
      position % every === 0 || each.isHost ? [line(each, position, each.label)] : []
    );
    this._put(this._labels, labels);
    this._put(
      this._lengths,
      rows.flatMap((each, position) => {
        if (many) {
          return each.isNamed && !each.isHost ? [line(each, position, `◀ ${each.name}`)] : [];
        }
        const measured = each.ms.some(part => part !== null);
        return measured ? [line(each, position, ms(sum(each.ms)))] : [];
      })
    );
  }

  /** Fill a column anew where it has changed: a button that is pressed must stay the same. */
  private _put(column: HTMLElement, labels: readonly HTMLElement[]): void {
    const made = labels.map(label => label.outerHTML).join('');
    if (column.innerHTML !== made) {
      const focused = [...column.children].findIndex(each => each === document.activeElement);
      column.replaceChildren(...labels);
      labels[focused]?.focus();
    }
  }

  private _rows: readonly Row[] = [];
  private readonly _onFold: (host: string) => void;
  private readonly _labels: HTMLElement;
  private readonly _lengths: HTMLElement;
}

/** Height of a row and of the bar in it, in pixels. */
function pitch(rows: number): { row: number; thick: number } {
  const row = rows <= MOST_THICK ? 18 : Math.max(4, Math.floor(RANKS_HEIGHT / rows));
  return { row, thick: rows <= MOST_THICK ? 14 : row - 1 };
}
