/**
 * The bars of the steps with their axes: hovered, walked by the arrow keys, and zoomed.
 *
 * A drag over the bars selects steps; a click, or Enter, opens the bar under the pointer.
 */
import type { Range, View } from './types';
import { FEWEST_SLOTS, UNMEASURED } from './generated';
import { barLengths, labelRoom, robustTop, shownSteps, stepTicks, ticks, within } from './axis';
import { Brush } from './brush';
import { canvas, element, placed, prepare } from './drawing';
import { fill } from './partPattern';
import type { Tooltip } from './tooltip';
import { count, cutNote } from './formatting';

export class StepsPlot {
  /** `onRange` is asked for other steps; null is the whole run. */
  constructor(tooltip: Tooltip, onRange: (range: Range | null) => void) {
    this._tooltip = tooltip;
    this._onRange = onRange;
    this._scale = element('div', 'eai-Chart-scale');
    this._grid = element('div', 'eai-Chart-grid');
    this.canvas = canvas('Time of each part over the steps');
    this._marks = element('div', 'eai-Chart-marks');
    this._brush = new Brush(
      this.canvas,
      (from, to) => {
        this._select(this._stepAt(from), Math.ceil(this._exactStepAt(to)));
      },
      at => {
        this._open(this._barAt(at));
      }
    );
    const plot = element(
      'div',
      'eai-Chart-plot',
      this._grid,
      this.canvas,
      this._brush.node,
      this._marks,
      tooltip.node
    );
    this._axis = element('div', 'eai-Chart-axis');
    this._note = element('div', 'eai-Chart-note');
    this._line = element('span', '');
    const back = document.createElement('button');
    back.textContent = 'Whole run';
    back.title = 'Show all steps again (Escape, or a double click)';
    back.addEventListener('click', () => {
      this._onRange(null);
      this.canvas.focus();
    });
    this._zoomed = element('div', 'eai-Chart-zoomed', this._line, back);
    this._zoomed.setAttribute('role', 'status');
    this.node = element(
      'div',
      '',
      this._zoomed,
      element('div', 'eai-Chart-steps', this._scale, plot),
      this._axis,
      this._note
    );
    this._listen();
  }

  readonly node: HTMLElement;
  readonly canvas: HTMLCanvasElement;

  /** Draw the steps of `range`, by default all of them; `words` say more about a part of them. */
  draw(view: View, range: Range | null, isNarrow: boolean, words: string): void {
    this._view = view;
    this._range = range;
    this._zoomed.hidden = range === null;
    this._line.textContent = words;
    const { buckets } = view;
    const shown = within(buckets, range);
    const lengths = barLengths(buckets);
    const top = robustTop(shown.map(position => lengths[position] ?? 0));
    const wide = this.canvas.clientWidth;
    const tall = this.canvas.clientHeight;
    const pen = prepare(this.canvas, wide, tall);
    const { first, span } = shownSteps(buckets, range);
    const x = (step: number): number => ((step - first) / span) * wide;
    // Wide bars get a gap; narrow ones would only flicker with one.
    const gap = span <= FEWEST_SLOTS ? Math.min(2, (0.2 * wide) / span) : 0;
    const fills = view.parts.map(part => fill(pen, part));
    const cut: number[] = [];
    for (const position of shown) {
      const left = Math.round(x(buckets.step[position] ?? 0));
      const right = Math.max(left + 1, Math.round(x(buckets.stop[position] ?? 0)) - gap);
      const high = (length: number): number => tall * (1 - Math.min(length, top) / top);
      let below = 0;
      buckets.ms[position]?.forEach((value, part) => {
        const above = below + (value ?? 0);
        pen.fillStyle = fills[part] ?? '';
        pen.fillRect(left, high(above), right - left, high(below) - high(above));
        below = above;
      });
      const missing = buckets.unmeasured_ms[position] ?? 0;
      if (missing > 0) {
        outline(pen, left, high(below + missing), right, high(below));
      }
      if ((lengths[position] ?? 0) > top * 1.001) {
        cut.push(Math.min(1, Math.max(0, (left + right) / 2 / wide)));
      }
    }
    this._axes(view, top, cut, isNarrow);
  }

  /** Show what is under the pointer or the keyboard's cursor in numbers; hide it if nothing is. */
  report(): void {
    const view = this._view;
    const { x, bar } = this._pointed;
    if (view === null || (x === undefined && bar === undefined)) {
      this._tooltip.hide();
      return;
    }
    const { step, stop, ms: bars, unmeasured_ms: missing } = view.buckets;
    const wide = this.canvas.clientWidth;
    const position = bar ?? this._barAt((x ?? 0) / wide);
    const from = step[position];
    const values = bars[position];
    if (from === undefined || values === undefined) {
      this._tooltip.hide();
      return;
    }
    const { first, span } = shownSteps(view.buckets, this._range);
    const last = (stop[position] ?? from + 1) - 1;
    const title = last <= from ? `step ${count(from)}` : `steps ${count(from)}–${count(last)}`;
    const middle = ((from + last + 1) / 2 - first) * (wide / span);
    const left = x ?? Math.min(wide, Math.max(0, middle));
    const words = this._tooltip.show(view, title, values, missing[position] ?? null, left, 20);
    this.canvas.setAttribute('aria-valuetext', words);
    this.canvas.setAttribute('aria-valuenow', String(from));
  }

  private _listen(): void {
    const { canvas: bars } = this;
    bars.tabIndex = 0;
    bars.setAttribute('role', 'slider');
    bars.title = 'Drag over steps to see them closer; click a bar to open it';
    bars.addEventListener('pointermove', event => {
      // The browser's own words would cover the numbers.
      bars.removeAttribute('title');
      this._pointed = { x: event.offsetX };
      this.report();
    });
    for (const end of ['pointerleave', 'blur']) {
      bars.addEventListener(end, () => {
        this._pointed = {};
        this.report();
      });
    }
    bars.addEventListener('dblclick', () => {
      this._onRange(null);
    });
    bars.addEventListener('keydown', event => {
      this._onKey(event);
    });
  }

  /** The arrow keys go from bar to bar; Enter, + and - change which steps are shown. */
  private _onKey(event: KeyboardEvent): void {
    const view = this._view;
    const shown = view === null ? [] : within(view.buckets, this._range);
    const [begin, end] = [shown[0], shown.at(-1)];
    if (view === null || begin === undefined || end === undefined) {
      return;
    }
    const now = this._pointed.bar;
    const next = {
      ArrowRight: now === undefined ? begin : now + 1,
      ArrowLeft: now === undefined ? end : now - 1,
      Home: begin,
      End: end
    }[event.key];
    if (next !== undefined) {
      this._pointed = { bar: Math.max(begin, Math.min(end, next)) };
    } else if (event.key === 'Enter' && now !== undefined) {
      this._open(now);
    } else if (event.key === 'Escape') {
      if (now === undefined) {
        this._onRange(null);
      }
      this._pointed = {};
    } else if (['+', '=', '-'].includes(event.key)) {
      const { first, span } = shownSteps(view.buckets, this._range);
      const middle = now === undefined ? first + span / 2 : (view.buckets.step[now] ?? first) + 0.5;
      const half = (event.key === '-' ? 2 : 0.5) * (span / 2);
      this._select(Math.floor(middle - half), Math.ceil(middle + half));
    } else {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
    this.report();
  }

  private _exactStepAt(share: number): number {
    const { first, span } = shownSteps(this._view?.buckets ?? NOTHING, this._range);
    return first + share * span;
  }

  private _stepAt(share: number): number {
    return Math.floor(this._exactStepAt(share));
  }

  private _barAt(share: number): number {
    const { step, stop } = this._view?.buckets ?? NOTHING;
    const at = this._exactStepAt(share);
    return step.findIndex((start, i) => start <= at && at < (stop[i] ?? start));
  }

  private _open(bar: number): void {
    const { step, stop } = this._view?.buckets ?? NOTHING;
    const from = step[bar];
    if (from !== undefined) {
      this._select(from, stop[bar] ?? from + 1);
    }
  }

  /** Ask for steps, as far as the run has them; all of them are the whole run. */
  private _select(first: number, stop: number): void {
    const steps = this._view?.run.steps ?? 0;
    const from = Math.max(0, Math.min(first, steps - 1));
    const to = Math.min(steps, Math.max(stop, from + 1));
    if (to > from) {
      this._pointed = {};
      this.report();
      this._onRange(from <= 0 && to >= steps ? null : { first: from, stop: to });
    }
  }

  private _axes(view: View, top: number, cut: readonly number[], isNarrow: boolean): void {
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
    this._note.textContent = cutNote(view.buckets, cut.length, isNarrow);
    const { first, span } = shownSteps(view.buckets, this._range);
    const stop = this._range?.stop ?? Infinity;
    const room = labelRoom(first, this.canvas.clientWidth);
    const marks = levels.length > 0 ? stepTicks(first, span, isNarrow ? 4 : 5, room) : [];
    this._axis.replaceChildren(
      ...marks
        .filter(step => step < stop)
        .map((step, position) =>
          placed(
            'span',
            'left',
            `${(100 * (step - first)) / span}%`,
            `${position === 0 ? 'step ' : ''}${count(step)}`
          )
        )
    );
    const { canvas: bars } = this;
    bars.setAttribute(
      'aria-label',
      'Time of each part over the steps; arrow keys go from bar to bar, Enter opens one, plus and minus zoom'
    );
    bars.setAttribute('aria-valuemin', String(first));
    bars.setAttribute('aria-valuemax', String(view.buckets.step.at(-1) ?? first));
    const at = Number(bars.getAttribute('aria-valuenow') ?? -1);
    if (at < first) {
      bars.setAttribute('aria-valuenow', String(first));
    }
  }

  private _view: View | null = null;
  private _range: Range | null = null;
  /** Where the pointer is, or the bar that the keyboard is at. */
  private _pointed: { x?: number; bar?: number } = {};
  private readonly _tooltip: Tooltip;
  private readonly _onRange: (range: Range | null) => void;
  private readonly _brush: Brush;
  private readonly _scale: HTMLElement;
  private readonly _grid: HTMLElement;
  private readonly _marks: HTMLElement;
  private readonly _axis: HTMLElement;
  private readonly _note: HTMLElement;
  private readonly _zoomed: HTMLElement;
  private readonly _line: HTMLElement;
}

const NOTHING: View['buckets'] = {
  width: 1,
  step: [],
  stop: [],
  ms: [],
  unmeasured_ms: [],
  longest: null
};

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
