/**
 * The chart of a run: verdict, legend, stacked parts over the steps, one bar a rank, rates.
 *
 * Plain DOM and two canvases, so that the JupyterLab panel and the notebook widget share
 * it. Text is HTML: it keeps its size, follows the theme and can be selected; only bars
 * are painted, and only once per animation frame however often the run reports.
 */
import { FEWEST_SLOTS, HeatMap } from './heatMap';
import type { Measured, Rank, View } from './types';
import { colour, MEANINGS } from './palette';
import { robustTop, ticks } from './axis';
import { background, fill } from './partPattern';
import { mean, ms, percent, priceLine, ratesLine, sum } from './formatting';

/** Ranks that get a bar with a label each; more share `RANKS_HEIGHT` pixels. */
const MOST_THICK = 16;
const RANKS_HEIGHT = 320;
/** Below this width host names leave no room for the bars. */
const WIDE = 420;

export class Chart {
  constructor(host: HTMLElement) {
    this._root = element('figure', 'eai-Chart');
    this._sentence = element('div', 'eai-Chart-sentence');
    this._evidence = element('div', 'eai-Chart-evidence');
    this._verdict = element('div', 'eai-Chart-verdict', this._sentence, this._evidence);
    this._legend = element('div', 'eai-Chart-legend');
    this._scale = element('div', 'eai-Chart-scale');
    this._grid = element('div', 'eai-Chart-grid');
    this._steps = canvas('Time of each part over the steps');
    this._marks = element('div', 'eai-Chart-marks');
    const plot = element('div', 'eai-Chart-plot', this._grid, this._steps, this._marks);
    this._axis = element('div', 'eai-Chart-axis');
    this._note = element('div', 'eai-Chart-note');
    this._labels = element('div', 'eai-Chart-labels');
    this._ranks = canvas('Time of each part on each rank');
    this._lengths = element('div', 'eai-Chart-lengths');
    this._rates = element('div', 'eai-Chart-rates');
    this._price = element('div', 'eai-Chart-rates');
    this._root.append(
      this._verdict,
      this._legend,
      element('div', 'eai-Chart-steps', this._scale, plot),
      this._axis,
      this._note,
      element('div', 'eai-Chart-ranks', this._labels, this._ranks, this._lengths),
      this._heat.node,
      this._rates,
      this._price
    );
    host.append(this._root);
    this._steps.addEventListener('pointermove', event => {
      this._pointed = { steps: event.offsetX };
      this._fillLegend();
    });
    this._ranks.addEventListener('pointermove', event => {
      this._pointed = { ranks: event.offsetY };
      this._fillLegend();
    });
    for (const painted of [this._steps, this._ranks]) {
      painted.addEventListener('pointerleave', () => {
        this._pointed = {};
        this._fillLegend();
      });
    }
    this._observer = new ResizeObserver(() => {
      this._schedule();
    });
    this._observer.observe(this._root);
  }

  /** Show a run; drawn in the next animation frame, the latest view wins. */
  draw(view: View): void {
    this._view = view;
    this._schedule();
  }

  dispose(): void {
    this._observer.disconnect();
    cancelAnimationFrame(this._frame);
    this._root.remove();
  }

  private _schedule(): void {
    if (this._frame === 0 && this._view !== null) {
      this._frame = requestAnimationFrame(() => {
        this._frame = 0;
        this._paint();
      });
    }
  }

  private _paint(): void {
    const view = this._view;
    if (view === null || this._root.clientWidth === 0) {
      return;
    }
    this._root.setAttribute('aria-label', `Ledger of ${view.run.name}: ${view.verdict.sentence}`);
    this._root.dataset.steps = String(view.run.steps);
    this._root.classList.toggle('eai-mod-narrow', this._root.clientWidth < WIDE);
    this._verdict.style.borderLeftColor = colour(view.verdict.kind);
    this._sentence.replaceChildren(...withCode(view.verdict.sentence));
    this._evidence.replaceChildren(...withCode(view.verdict.evidence.join(' · ')));
    this._rates.textContent = ratesLine(view);
    this._price.textContent = priceLine(view);
    this._heat.draw(view);
    this._fillLegend();
    this._paintSteps(view);
    this._paintRanks(view);
  }

  /** The legend tells the means, or the bar under the pointer. */
  private _fillLegend(): void {
    const view = this._view;
    if (view === null) {
      return;
    }
    const { title, values } = this._told(view);
    const whole = sum(values);
    const entries = view.parts.map((part, place) => {
      const value = values[place] ?? null;
      const told =
        value === null || whole === 0 ? 'not measured' : `${ms(value)} · ${percent(value / whole)}`;
      const swatch = element('span', 'eai-Chart-swatch');
      swatch.style.background = background(part);
      const entry = element('span', 'eai-Chart-entry', swatch, part, faint(told));
      entry.title = MEANINGS[part] ?? '';
      return entry;
    });
    const heading = title === '' ? [] : [element('span', 'eai-Chart-pointed', title)];
    this._legend.replaceChildren(...entries, ...heading);
  }

  private _told(view: View): { title: string; values: readonly Measured[] } {
    const { step, width, ms: bars } = view.buckets;
    if (this._pointed.steps !== undefined) {
      const slot = Math.floor((this._pointed.steps / this._steps.clientWidth) * slots(bars.length));
      const values = bars[slot];
      const first = step[slot];
      if (values !== undefined && first !== undefined) {
        return {
          title: width === 1 ? `step ${first}` : `steps ${first}-${first + width - 1}`,
          values
        };
      }
    }
    if (this._pointed.ranks !== undefined) {
      const row = Math.floor(this._pointed.ranks / pitch(view.ranks.length).row);
      const rank = view.ranks[row];
      if (rank !== undefined) {
        return { title: `rank ${rank.rank} on ${rank.host}`, values: rank.ms };
      }
    }
    const means = view.parts.map((_, place) =>
      mean(view.ranks.map(rank => rank.ms[place] ?? null))
    );
    return { title: '', values: means };
  }

  private _paintSteps(view: View): void {
    const bars = view.buckets.ms;
    const lengths = bars.map(sum);
    const top = robustTop(lengths);
    const wide = this._steps.clientWidth;
    const tall = this._steps.clientHeight;
    const pen = prepare(this._steps, wide, tall);
    const slot = wide / slots(bars.length);
    // Wide bars get a gap; narrow ones would only flicker with one.
    const gap = bars.length <= FEWEST_SLOTS ? Math.min(2, 0.2 * slot) : 0;
    const fills = view.parts.map(part => fill(pen, part));
    bars.forEach((bar, place) => {
      const left = Math.round(place * slot);
      const right = Math.max(left + 1, Math.round((place + 1) * slot) - gap);
      let below = 0;
      bar.forEach((value, part) => {
        const above = below + (value ?? 0);
        const low = tall * (1 - Math.min(below, top) / top);
        const high = tall * (1 - Math.min(above, top) / top);
        pen.fillStyle = fills[part] ?? '';
        pen.fillRect(left, high, right - left, low - high);
        below = above;
      });
    });
    this._axes(view, top, lengths);
  }

  private _axes(view: View, top: number, lengths: readonly number[]): void {
    const levels = view.buckets.ms.length > 0 ? ticks(top, 3) : [0];
    this._grid.replaceChildren(
      ...levels.map(level => placed('div', 'bottom', `${(100 * level) / top}%`, ''))
    );
    this._scale.replaceChildren(
      ...levels.map(level =>
        placed(
          'span',
          'bottom',
          `calc(${(100 * level) / top}% - 7px)`,
          `${level}${level === 0 ? ' ms' : ''}`
        )
      )
    );
    const wide = slots(lengths.length);
    const cut = lengths.flatMap((length, place) => (length > top * 1.001 ? [place] : []));
    this._marks.replaceChildren(
      ...cut.map(place => placed('span', 'left', `${(100 * (place + 0.45)) / wide}%`, '▲'))
    );
    const longest = ms(Math.max(0, ...lengths));
    this._note.textContent =
      cut.length === 0
        ? ''
        : `▲ ${cut.length} bar${cut.length === 1 ? '' : 's'} cut at the top, the longest is ${longest}`;
    const span = wide * view.buckets.width;
    const count = this._root.clientWidth < WIDE ? 3 : 5;
    const marks = ticks(span, count).filter(step => step <= 0.95 * span);
    this._axis.replaceChildren(
      ...marks.map(step =>
        placed('span', 'left', `${(100 * step) / span}%`, step === 0 ? 'step 0' : String(step))
      )
    );
  }

  private _paintRanks(view: View): void {
    const ranks = view.ranks;
    const longest = Math.max(...ranks.map(rank => sum(rank.ms)), 1e-9);
    const { row, thick } = pitch(ranks.length);
    const severalHosts = view.run.hosts.length > 1 && this._root.clientWidth >= WIDE;
    this._fillRankLabels(view, row, severalHosts);
    this._ranks.style.height = `${row * ranks.length}px`;
    const wide = this._ranks.clientWidth;
    const pen = prepare(this._ranks, wide, row * ranks.length);
    const fills = view.parts.map(part => fill(pen, part));
    ranks.forEach((rank, place) => {
      let left = 0;
      rank.ms.forEach((value, part) => {
        const right = left + (value ?? 0);
        const from = Math.round((wide * left) / longest);
        pen.fillStyle = fills[part] ?? '';
        pen.fillRect(from, place * row, Math.round((wide * right) / longest) - from, thick);
        left = right;
      });
    });
  }

  private _fillRankLabels(view: View, row: number, severalHosts: boolean): void {
    const many = view.ranks.length > MOST_THICK;
    const every = many ? Math.max(8, Math.floor(view.ranks.length / 8)) : 1;
    const named = view.verdict.rank;
    const line = (rank: Rank, place: number, text: string): HTMLElement => {
      const label = placed('div', 'top', `${place * row + (row - 1) / 2}px`, text);
      label.classList.toggle('eai-mod-named', rank.rank === named);
      return label;
    };
    const name = (rank: Rank): string =>
      severalHosts ? `rank ${rank.rank} · ${rank.host}` : `rank ${rank.rank}`;
    this._labels.classList.toggle('eai-mod-hosts', severalHosts);
    this._labels.replaceChildren(
      ...view.ranks.flatMap((rank, place) =>
        place % every === 0 ? [line(rank, place, name(rank))] : []
      )
    );
    this._lengths.replaceChildren(
      ...view.ranks.flatMap((rank, place) => {
        if (many) {
          return rank.rank === named ? [line(rank, place, `◀ rank ${rank.rank}`)] : [];
        }
        const measured = rank.ms.some(part => part !== null);
        return measured ? [line(rank, place, ms(sum(rank.ms)))] : [];
      })
    );
  }

  private _view: View | null = null;
  private _pointed: { steps?: number; ranks?: number } = {};
  private _frame = 0;
  private readonly _root: HTMLElement;
  private readonly _verdict: HTMLElement;
  private readonly _sentence: HTMLElement;
  private readonly _evidence: HTMLElement;
  private readonly _legend: HTMLElement;
  private readonly _scale: HTMLElement;
  private readonly _grid: HTMLElement;
  private readonly _steps: HTMLCanvasElement;
  private readonly _marks: HTMLElement;
  private readonly _axis: HTMLElement;
  private readonly _note: HTMLElement;
  private readonly _labels: HTMLElement;
  private readonly _ranks: HTMLCanvasElement;
  private readonly _lengths: HTMLElement;
  private readonly _rates: HTMLElement;
  private readonly _price: HTMLElement;
  private readonly _heat = new HeatMap();
  private readonly _observer: ResizeObserver;
}

function slots(bars: number): number {
  return Math.max(bars, FEWEST_SLOTS);
}

/** Height of a rank's row and of the bar in it, in pixels. */
function pitch(ranks: number): { row: number; thick: number } {
  const row = ranks <= MOST_THICK ? 18 : Math.max(4, Math.floor(RANKS_HEIGHT / ranks));
  return { row, thick: ranks <= MOST_THICK ? 14 : row - 1 };
}

function element(
  tag: string,
  className: string,
  ...children: (HTMLElement | string)[]
): HTMLElement {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...children);
  return made;
}

function canvas(label: string): HTMLCanvasElement {
  const made = document.createElement('canvas');
  made.setAttribute('role', 'img');
  made.setAttribute('aria-label', label);
  return made;
}

function faint(text: string): HTMLElement {
  return element('span', 'eai-Chart-faint', text);
}

function placed(
  tag: string,
  side: 'left' | 'bottom' | 'top',
  where: string,
  text: string
): HTMLElement {
  const made = element(tag, '', text);
  made.style[side] = where;
  return made;
}

/** Text in which what stands between backticks is code. */
function withCode(text: string): (HTMLElement | string)[] {
  return text.split('`').map((piece, i) => (i % 2 === 1 ? element('code', '', piece) : piece));
}

/** Size a canvas for the screen's pixels and clear it. */
function prepare(target: HTMLCanvasElement, wide: number, tall: number): CanvasRenderingContext2D {
  const ratio = window.devicePixelRatio || 1;
  target.width = Math.round(wide * ratio);
  target.height = Math.round(tall * ratio);
  const pen = target.getContext('2d');
  if (pen === null) {
    throw new Error('this browser gives no 2D canvas');
  }
  pen.scale(ratio, ratio);
  return pen;
}
