/**
 * The chart of a run: verdict, legend, stacked parts over the steps, one bar a rank, rates.
 *
 * Plain DOM and two canvases, so that the JupyterLab panel and the notebook widget share
 * it. Text is HTML: it keeps its size, follows the theme and can be selected; only bars
 * are painted, and only once per animation frame however often the run reports.
 */
import { HeatMap } from './heatMap';
import type { Rank, View } from './types';
import { FEWEST_SLOTS, MOST_THICK, RANKS_HEIGHT, UNMEASURED } from './generated';
import { colour, learnParts, partStyle } from './parts';
import { barLengths, robustTop, stepSpan, stepTicks, ticks } from './axis';
import { RankTable } from './table';
import { background, fill } from './partPattern';
import { TrainingSection } from './training';
import { Tooltip } from './tooltip';
import { count, cutNote, duration, ms, percent, priceLine, ratesLine, sum } from './formatting';

/** Below this width host names leave no room for the bars. */
const WIDE = 420;

export class Chart {
  constructor(host: HTMLElement) {
    this._root = element('figure', 'eai-Chart');
    this._sentence = element('div', 'eai-Chart-sentence');
    this._sentence.setAttribute('role', 'status');
    this._evidence = element('div', 'eai-Chart-evidence');
    this._advice = element('div', 'eai-Chart-advice');
    this._verdict = element(
      'div',
      'eai-Chart-verdict',
      this._sentence,
      this._advice,
      this._evidence
    );
    this._legend = element('div', 'eai-Chart-legend');
    this._scale = element('div', 'eai-Chart-scale');
    this._grid = element('div', 'eai-Chart-grid');
    this._steps = canvas('Time of each part over the steps');
    this._marks = element('div', 'eai-Chart-marks');
    const plot = element(
      'div',
      'eai-Chart-plot',
      this._grid,
      this._steps,
      this._marks,
      this._tooltip.node
    );
    this._axis = element('div', 'eai-Chart-axis');
    this._note = element('div', 'eai-Chart-note');
    this._labels = element('div', 'eai-Chart-labels');
    this._ranks = canvas('Time of each part on each rank');
    this._lengths = element('div', 'eai-Chart-lengths');
    this._rates = element('div', 'eai-Chart-rates');
    this._price = element('div', 'eai-Chart-rates');
    this._root.append(
      this._verdict,
      this._training.node,
      this._legend,
      element('div', 'eai-Chart-steps', this._scale, plot),
      this._axis,
      this._note,
      element('div', 'eai-Chart-ranks', this._labels, this._ranks, this._lengths),
      this._heat.node,
      this._rates,
      this._price,
      this._table.node
    );
    host.append(this._root);
    this._steps.addEventListener('pointermove', event => {
      this._pointed = { x: event.offsetX };
      this._report();
    });
    this._ranks.addEventListener('pointermove', event => {
      this._pointed = { y: event.offsetY, x: event.offsetX };
      this._report();
    });
    for (const painted of [this._steps, this._ranks]) {
      painted.addEventListener('pointerleave', () => {
        this._pointed = {};
        this._report();
      });
    }
    this._steps.tabIndex = 0;
    this._steps.setAttribute('role', 'slider');
    this._steps.addEventListener('keydown', event => {
      this._onKey(event);
    });
    this._steps.addEventListener('blur', () => {
      this._pointed = {};
      this._report();
    });
    this._observer = new ResizeObserver(() => {
      this._schedule();
    });
    this._observer.observe(this._root);
  }

  /** Show a run; drawn in the next animation frame, the latest view wins. */
  draw(view: View): void {
    learnParts(view);
    this._view = view;
    this._schedule();
  }

  dispose(): void {
    this._observer.disconnect();
    cancelAnimationFrame(this._frame);
    window.clearTimeout(this._timer);
    this._root.remove();
  }

  private _schedule(later = 0): void {
    if (later > 0) {
      window.clearTimeout(this._timer);
      this._timer = window.setTimeout(() => {
        this._schedule();
      }, later);
      return;
    }
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
    this._root.classList.toggle('eai-mod-narrow', this._isNarrow);
    this._verdict.style.borderLeftColor = colour(view.verdict.kind);
    const waits = notYet(view);
    this._root.classList.toggle('eai-mod-waiting', waits !== '');
    const sentence = waits === '' ? view.verdict.sentence : waits;
    if (this._said !== sentence) {
      // A live region speaks whenever it is filled anew.
      this._said = sentence;
      this._sentence.replaceChildren(...withCode(sentence));
    }
    const evidence = waits === '' ? view.verdict.evidence.join(' · ') : '';
    this._evidence.replaceChildren(...withCode(evidence));
    this._advice.replaceChildren(...withCode(waits === '' ? adviceOf(view.verdict) : ''));
    this._rates.textContent = ratesLine(view);
    this._price.textContent = waits === '' ? priceLine(view) : '';
    this._training.draw(view);
    this._heat.draw(view);
    this._fillLegend(view);
    this._paintSteps(view);
    this._paintRanks(view);
    this._table.draw(view);
    this._report();
    if (waits !== '') {
      this._schedule(1000);
    }
  }

  /** The means over all ranks. */
  private _fillLegend(view: View): void {
    const means = view.means_ms;
    const whole = sum(means);
    const entries = view.parts.map((part, place) => {
      const value = means[place] ?? null;
      const share = percent((value ?? 0) / (whole || 1));
      const known = this._isNarrow ? share : `${ms(value ?? 0)} · ${share}${waitingOf(view, part)}`;
      const figure = value === null || whole === 0 ? missing(view, part) : known;
      const swatch = element('span', 'eai-Chart-swatch');
      swatch.style.background = background(part);
      const entry = element('span', 'eai-Chart-entry', swatch, part, faint(figure));
      entry.title = partStyle(part).meaning;
      return entry;
    });
    if (view.buckets.unmeasured_ms.some(length => (length ?? 0) > 0)) {
      const swatch = element('span', 'eai-Chart-swatch eai-mod-unmeasured');
      const entry = element('span', 'eai-Chart-entry', swatch, 'not measured');
      entry.title =
        'steps of which only the length is known: the first one, which compiles, and strikingly long ones';
      entries.push(entry);
    }
    this._legend.replaceChildren(...entries);
  }

  /** What is under the pointer, or under the keyboard's cursor, in numbers beside it. */
  private _report(): void {
    const view = this._view;
    const { x, y, bar } = this._pointed;
    if (view === null || (x === undefined && y === undefined && bar === undefined)) {
      this._tooltip.hide();
      return;
    }
    if (y !== undefined) {
      const { row } = pitch(view.ranks.length);
      const rank = view.ranks[Math.floor(y / row)];
      if (rank === undefined) {
        this._tooltip.hide();
        return;
      }
      // The box stands in the plot of the steps, above the ranks.
      const up = this._steps.getBoundingClientRect().top;
      const below = this._ranks.getBoundingClientRect().top - up + y + 12;
      this._tooltip.show(view, `rank ${rank.rank} on ${rank.host}`, rank.ms, null, x ?? 0, below);
      return;
    }
    const { step, stop, ms: bars, unmeasured_ms: missing } = view.buckets;
    const { first, span } = stepSpan(view.buckets);
    const wide = this._steps.clientWidth;
    const at = first + ((x ?? 0) / wide) * span;
    const place = bar ?? step.findIndex((start, i) => start <= at && at < (stop[i] ?? start));
    const from = step[place];
    const values = bars[place];
    if (from === undefined || values === undefined) {
      this._tooltip.hide();
      return;
    }
    const last = (stop[place] ?? from + 1) - 1;
    const title = last <= from ? `step ${count(from)}` : `steps ${count(from)}–${count(last)}`;
    const left = x ?? ((from + last + 1) / 2 - first) * (wide / span);
    const words = this._tooltip.show(view, title, values, missing[place] ?? null, left, 20);
    this._steps.setAttribute('aria-valuetext', words);
    this._steps.setAttribute('aria-valuenow', String(from));
  }

  /** The arrow keys go from bar to bar. */
  private _onKey(event: KeyboardEvent): void {
    const bars = this._view?.buckets.step.length ?? 0;
    const now = this._pointed.bar;
    const next = {
      ArrowRight: (now ?? -1) + 1,
      ArrowLeft: (now ?? bars) - 1,
      Home: 0,
      End: bars - 1,
      Escape: -1
    }[event.key];
    if (next === undefined || bars === 0) {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
    this._pointed = event.key === 'Escape' ? {} : { bar: Math.max(0, Math.min(bars - 1, next)) };
    this._report();
  }

  private _paintSteps(view: View): void {
    const { buckets } = view;
    const lengths = barLengths(buckets);
    const top = robustTop(lengths);
    const wide = this._steps.clientWidth;
    const tall = this._steps.clientHeight;
    const pen = prepare(this._steps, wide, tall);
    const { first, span } = stepSpan(buckets);
    const x = (step: number): number => ((step - first) / span) * wide;
    // Wide bars get a gap; narrow ones would only flicker with one.
    const gap = span <= FEWEST_SLOTS ? Math.min(2, (0.2 * wide) / span) : 0;
    const fills = view.parts.map(part => fill(pen, part));
    const cut: number[] = [];
    buckets.ms.forEach((bar, place) => {
      const left = Math.round(x(buckets.step[place] ?? 0));
      const right = Math.max(left + 1, Math.round(x(buckets.stop[place] ?? 0)) - gap);
      const high = (length: number): number => tall * (1 - Math.min(length, top) / top);
      let below = 0;
      bar.forEach((value, part) => {
        const above = below + (value ?? 0);
        pen.fillStyle = fills[part] ?? '';
        pen.fillRect(left, high(above), right - left, high(below) - high(above));
        below = above;
      });
      const missing = buckets.unmeasured_ms[place] ?? 0;
      if (missing > 0) {
        outline(pen, left, high(below + missing), right, high(below));
      }
      if ((lengths[place] ?? 0) > top * 1.001) {
        cut.push((left + right) / 2 / wide);
      }
    });
    this._axes(view, top, cut);
  }

  private _axes(view: View, top: number, cut: readonly number[]): void {
    const levels = view.buckets.ms.length > 0 ? ticks(top, 3) : [];
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
    this._marks.replaceChildren(
      ...cut.map(along => placed('span', 'left', `${100 * along}%`, '▲'))
    );
    this._note.textContent = cutNote(view.buckets, cut.length, this._isNarrow);
    const { first, span } = stepSpan(view.buckets);
    const marks = levels.length > 0 ? stepTicks(first, span, this._isNarrow ? 4 : 5) : [];
    this._axis.replaceChildren(
      ...marks.map((step, place) =>
        placed(
          'span',
          'left',
          `${(100 * (step - first)) / span}%`,
          `${place === 0 ? 'step ' : ''}${count(step)}`
        )
      )
    );
    this._steps.setAttribute(
      'aria-label',
      'Time of each part over the steps; arrow keys go from bar to bar'
    );
    this._steps.setAttribute('aria-valuemin', String(first));
    this._steps.setAttribute('aria-valuemax', String(view.buckets.step.at(-1) ?? first));
    if (!this._steps.hasAttribute('aria-valuenow')) {
      this._steps.setAttribute('aria-valuenow', String(first));
    }
  }

  private get _isNarrow(): boolean {
    return this._root.clientWidth < WIDE;
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
  /** Where the pointer is in the steps or in the ranks, or the bar that the keyboard is at. */
  private _pointed: { x?: number; y?: number; bar?: number } = {};
  private _said = '';
  private _frame = 0;
  private _timer = 0;
  private readonly _training = new TrainingSection();
  private readonly _tooltip = new Tooltip();
  private readonly _table = new RankTable();
  private readonly _root: HTMLElement;
  private readonly _verdict: HTMLElement;
  private readonly _sentence: HTMLElement;
  private readonly _evidence: HTMLElement;
  private readonly _advice: HTMLElement;
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

/** What a run that goes on still waits for before anything can be said of it; else empty. */
function notYet(view: View): string {
  const measured = view.ranks.some(rank => rank.ms.some(part => part !== null));
  if (view.run.state !== 'running' || measured) {
    return '';
  }
  const age = duration(Math.max(0, Math.floor(Date.now() / 1000 - view.run.started)));
  return view.run.steps > 1
    ? `measuring the first steps, ${age}`
    : `compiling the first step, ${age}`;
}

/** Draw the outline of time that was not measured: it looks like none of the parts. */
function outline(
  pen: CanvasRenderingContext2D,
  left: number,
  top: number,
  right: number,
  bottom: number
): void {
  pen.save();
  pen.fillStyle = `${UNMEASURED}20`;
  pen.fillRect(left, top, right - left, bottom - top);
  pen.strokeStyle = UNMEASURED;
  pen.setLineDash([3, 2]);
  pen.lineWidth = 1;
  const inset = right - left > 2 ? 0.5 : 0;
  pen.strokeRect(left + inset, top + 0.5, Math.max(0.5, right - left - 1), bottom - top - 0.5);
  pen.restore();
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

/** What can be done about what the verdict found, and what that would gain. */
function adviceOf(verdict: View['verdict']): string {
  if (verdict.tries.length === 0) {
    return '';
  }
  return `Try: ${verdict.tries.join('; ')}${verdict.gain === '' ? '' : ` (${verdict.gain})`}`;
}

/** Why a part has no length. */
function missing(view: View, part: string): string {
  const alone = view.run.size === 1 && partStyle(part).needs_peers;
  return alone ? 'one rank' : 'not measured';
}

/** The verdict's number beside the mean over all ranks, which counts the late one in. */
function waitingOf(view: View, part: string): string {
  const waits = part === 'wait_peer' && view.waiting_ms !== null && view.waiting_ms > 0;
  return waits ? ` (${ms(view.waiting_ms ?? 0)} on a rank that waits)` : '';
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
