/** The bars of the ranks: what each spent its time on, a mean over the steps that are shown. */
import type { Rank, View } from './types';
import { MOST_THICK, RANKS_HEIGHT } from './generated';
import { canvas, element, placed, prepare } from './drawing';
import { fill } from './partPattern';
import { ms, sum } from './formatting';

/** From this width of the chart on host names leave room for the bars. */
const WIDE = 420;

export class RanksPlot {
  constructor() {
    this._labels = element('div', 'eai-Chart-labels');
    this.canvas = canvas('Time of each part on each rank');
    this._lengths = element('div', 'eai-Chart-lengths');
    this.node = element('div', 'eai-Chart-ranks', this._labels, this.canvas, this._lengths);
  }

  readonly node: HTMLElement;
  readonly canvas: HTMLCanvasElement;

  /** The rank whose bar is so many pixels from the top. */
  rankAt(view: View, y: number): Rank | undefined {
    return view.ranks[Math.floor(y / pitch(view.ranks.length).row)];
  }

  draw(view: View, chartWidth: number): void {
    const ranks = view.ranks;
    const longest = Math.max(...ranks.map(rank => sum(rank.ms)), 1e-9);
    const { row, thick } = pitch(ranks.length);
    this._fillLabels(view, row, view.run.hosts.length > 1 && chartWidth >= WIDE);
    this.canvas.style.height = `${row * ranks.length}px`;
    const wide = this.canvas.clientWidth;
    const pen = prepare(this.canvas, wide, row * ranks.length);
    const fills = view.parts.map(part => fill(pen, part));
    ranks.forEach((rank, position) => {
      let left = 0;
      rank.ms.forEach((value, part) => {
        const right = left + (value ?? 0);
        const from = Math.round((wide * left) / longest);
        pen.fillStyle = fills[part] ?? '';
        pen.fillRect(from, position * row, Math.round((wide * right) / longest) - from, thick);
        left = right;
      });
    });
  }

  private _fillLabels(view: View, row: number, severalHosts: boolean): void {
    const many = view.ranks.length > MOST_THICK;
    const every = many ? Math.max(8, Math.floor(view.ranks.length / 8)) : 1;
    const named = view.verdict.rank;
    const line = (rank: Rank, position: number, text: string): HTMLElement => {
      const label = placed('div', 'top', `${position * row + (row - 1) / 2}px`, text);
      label.classList.toggle('eai-mod-named', rank.rank === named);
      return label;
    };
    const name = (rank: Rank): string =>
      severalHosts ? `rank ${rank.rank} · ${rank.host}` : `rank ${rank.rank}`;
    this._labels.classList.toggle('eai-mod-hosts', severalHosts);
    this._labels.replaceChildren(
      ...view.ranks.flatMap((rank, position) =>
        position % every === 0 ? [line(rank, position, name(rank))] : []
      )
    );
    this._lengths.replaceChildren(
      ...view.ranks.flatMap((rank, position) => {
        if (many) {
          return rank.rank === named ? [line(rank, position, `◀ rank ${rank.rank}`)] : [];
        }
        const measured = rank.ms.some(part => part !== null);
        return measured ? [line(rank, position, ms(sum(rank.ms)))] : [];
      })
    );
  }

  private readonly _labels: HTMLElement;
  private readonly _lengths: HTMLElement;
}

/** Height of a rank's row and of the bar in it, in pixels. */
function pitch(ranks: number): { row: number; thick: number } {
  const row = ranks <= MOST_THICK ? 18 : Math.max(4, Math.floor(RANKS_HEIGHT / ranks));
  return { row, thick: ranks <= MOST_THICK ? 14 : row - 1 };
}
