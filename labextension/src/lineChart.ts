/**
 * Lines over the steps, or over time, with axes: the metrics of a run in its tab, and of several runs together.
 *
 * SVG, since there are a few hundred points at most. A drag selects steps, as on the bars.
 */
import type { Range } from './types';
import { labelRoom, stepTicks, timeTicks, valueTicks } from './axis';
import { Brush } from './brush';
import { element, placed } from './drawing';
import { count } from './formatting';

export interface Series {
  label: string;
  colour: string;
  /** The dashes of the line; empty for a whole line. */
  dash: string;
  points: readonly (readonly [number, number])[];
}

const SVG = 'http://www.w3.org/2000/svg';
/** The drawing is as many units wide and tall. */
const UNITS = 1000;
/** Below this width in pixels there is room for few labels. */
const NARROW = 320;

export class LineChart {
  /**
   * `onRange` is asked for other steps; null is all of them. Without names a legend has them.
   *
   * With `inTime` the lines and the ranges are over seconds, which it writes.
   */
  constructor(
    title: string,
    format: (value: number) => string,
    onRange: OnRange,
    hasNames = true,
    inTime: ((seconds: number) => string) | null = null
  ) {
    this._format = format;
    this._hasNames = hasNames;
    this._inTime = inTime;
    this._picture.setAttribute('viewBox', `0 0 ${UNITS} ${UNITS}`);
    this._picture.setAttribute('preserveAspectRatio', 'none');
    this._picture.setAttribute('role', 'img');
    const over = inTime === null ? 'the steps' : 'time';
    this._picture.setAttribute('aria-label', `${title} over ${over}`);
    this._title = title;
    this._tooltip.hidden = true;
    this._plot.append(this._picture);
    this._letSelect(onRange);
    const plot = this._plot;
    plot.tabIndex = 0;
    plot.setAttribute('role', 'group');
    plot.setAttribute('aria-label', `${title}: plus and minus zoom, arrows move, Escape shows all`);
    plot.addEventListener('keydown', event => {
      this._onKey(event, onRange);
    });
    this._plot.append(this._cursor, this._tooltip);
    this._cursor.hidden = true;
    this._plot.addEventListener('pointermove', event => {
      const box = this._plot.getBoundingClientRect();
      this._point((event.clientX - box.left) / (box.width || 1));
    });
    this._plot.addEventListener('pointerleave', () => {
      this._tooltip.hidden = this._cursor.hidden = true;
    });
    this.node.append(
      this._heading,
      element('div', 'eai-Chart-steps', this._scale, this._plot),
      this._axis
    );
  }

  readonly node = element('div', 'eai-Lines');

  /** Draw lines over the steps of `range`; by default of all of them. */
  draw(series: readonly Series[], range: Range | null): void {
    this._series = series;
    this._entitle(series);
    const steps = series.flatMap(each => each.points.map(([step]) => step));
    this._end = Math.max(1, ...steps);
    this._first = range?.first ?? 0;
    this._last = Math.max(this._first + 1, range === null ? this._end : range.stop);
    const values = series.flatMap(({ points }) =>
      seen(points, this._first, this._last).map(([, value]) => value)
    );
    this.node.hidden = values.length === 0;
    const levels = valueTicks(Math.min(...values), Math.max(...values), 4);
    const [low, high] = bounds(values, levels);
    const up = (value: number): number => (value - low) / (high - low || 1);
    this._picture.replaceChildren(
      ...levels.map(level => this._line([0, up(level)], [1, up(level)])),
      ...series.map(each => this._curve(each, up))
    );
    this._scale.replaceChildren(
      ...levels.map(level =>
        placed('span', 'bottom', `calc(${100 * up(level)}% - 7px)`, this._format(level))
      )
    );
    const span = this._last - this._first;
    const wide = this._plot.clientWidth;
    const marks = this._inTime === null ? stepTicks : timeTicks;
    this._axis.replaceChildren(
      ...marks(this._first, span, wide < NARROW ? 3 : 5, labelRoom(this._first, wide)).map(
        (step, position) =>
          placed(
            'span',
            'left',
            `${(100 * (step - this._first)) / span}%`,
            this._inTime?.(step) ?? `${position === 0 ? 'step ' : ''}${count(step)}`
          )
      )
    );
  }

  /** Have a drag select steps, and a double click all of them. */
  private _letSelect(onRange: OnRange): void {
    const brush = new Brush(
      this._plot,
      (from, to) => {
        onRange({
          first: Math.floor(this._step(from)),
          stop: Math.max(Math.floor(this._step(from)) + 1, Math.ceil(this._step(to)))
        });
      },
      () => undefined
    );
    this._plot.append(brush.node);
    this._plot.addEventListener('dblclick', () => {
      onRange(null);
    });
  }

  /** Plus and minus show half or twice as much, around the middle; the arrows go along. */
  private _onKey(event: KeyboardEvent, onRange: OnRange): void {
    const half = (this._last - this._first) / 2;
    const middle = this._first + half;
    const next = {
      '+': [middle, half / 2],
      '=': [middle, half / 2],
      '-': [middle, 2 * half],
      ArrowLeft: [middle - half / 2, half],
      ArrowRight: [middle + half / 2, half],
      Escape: [this._end / 2, this._end]
    }[event.key];
    const [around = 0, around_half = 0] = next ?? [];
    if (next === undefined) {
      return;
    }
    event.preventDefault();
    event.stopPropagation();
    if (2 * around_half >= this._end) {
      onRange(null);
      return;
    }
    const inside = Math.max(around_half, Math.min(around, this._end - around_half));
    const first = Math.floor(inside - around_half);
    onRange({ first, stop: Math.max(first + 1, Math.ceil(inside + around_half)) });
  }

  private _step(share: number): number {
    return this._first + share * (this._last - this._first);
  }

  private _curve(series: Series, up: (value: number) => number): SVGElement {
    const made = document.createElementNS(SVG, 'polyline');
    const path = seen(series.points, this._first, this._last).map(
      ([step, value]): [number, number] => [
        (step - this._first) / (this._last - this._first),
        up(value)
      ]
    );
    const [only] = path;
    if (path.length === 1 && only !== undefined) {
      // A line of one point is not seen.
      path.unshift([only[0] - 0.02, only[1]]);
    }
    made.setAttribute(
      'points',
      path.map(([x, y]) => `${(UNITS * x).toFixed(1)},${(UNITS * (1 - y)).toFixed(1)}`).join(' ')
    );
    made.setAttribute('class', 'eai-Lines-curve');
    made.setAttribute('stroke', series.colour);
    if (series.dash !== '') {
      made.setAttribute('stroke-dasharray', series.dash);
    }
    return made;
  }

  private _line(from: readonly [number, number], to: readonly [number, number]): SVGElement {
    const made = document.createElementNS(SVG, 'line');
    [from, to].forEach(([x, y], position) => {
      made.setAttribute(`x${position + 1}`, String(UNITS * x));
      made.setAttribute(`y${position + 1}`, String(UNITS * (1 - y)));
    });
    made.setAttribute('class', 'eai-Lines-grid');
    return made;
  }

  /** Show the values of all lines at the step under the pointer. */
  private _point(share: number): void {
    const at = this._step(share);
    const rows = this._series.flatMap(series => {
      const near = nearest(series.points, at);
      return near === null ? [] : [{ series, near }];
    });
    this._tooltip.hidden = this._cursor.hidden = rows.length === 0;
    this._cursor.style.left = `${100 * share}%`;
    this._tooltip.replaceChildren(
      element('div', 'eai-Chart-pointed', this._inTime?.(at) ?? `step ${count(Math.round(at))}`),
      ...rows.map(({ series, near }) => {
        const mark = element('span', 'eai-Chart-swatch');
        mark.style.background = series.colour;
        const value = element('span', 'eai-Tooltip-value', this._format(near));
        return element('div', '', mark, series.label, value);
      })
    );
    const room = this._plot.clientWidth;
    const wide = this._tooltip.offsetWidth;
    const right = share * room + 12;
    const x = right + wide <= room ? right : share * room - 12 - wide;
    this._tooltip.style.left = `${Math.max(0, x)}px`;
  }

  /** The title, and the names of the lines unless a legend has them. */
  private _entitle(series: readonly Series[]): void {
    const drawn = this._hasNames ? series.filter(each => each.points.length > 0) : [];
    const names = drawn.map(each => {
      const mark = element('span', 'eai-Chart-swatch');
      mark.style.background = each.colour;
      return element('span', 'eai-Chart-entry', mark, each.label);
    });
    this._heading.replaceChildren(this._title, ...names);
  }

  private readonly _title: string;
  private readonly _hasNames: boolean;
  private readonly _inTime: ((seconds: number) => string) | null;
  private _series: readonly Series[] = [];
  private _first = 0;
  /** Where the lines end. */
  private _end = 1;
  private _last = 1;
  private readonly _format: (value: number) => string;
  private readonly _heading = element('div', 'eai-Lines-title');
  private readonly _scale = element('div', 'eai-Chart-scale');
  private readonly _axis = element('div', 'eai-Chart-axis');
  private readonly _plot = element('div', 'eai-Chart-plot');
  private readonly _cursor = element('div', 'eai-Lines-cursor');
  private readonly _tooltip = element('div', 'eai-Tooltip');
  private readonly _picture = document.createElementNS(SVG, 'svg');
}

type OnRange = (range: Range | null) => void;

/** The points from one before the first step to one after the last: the line reaches the edges. */
function seen(points: Series['points'], first: number, last: number): Series['points'] {
  const inside = points.flatMap(([step], position) =>
    step >= first && step <= last ? [position] : []
  );
  const [begin, end] = [inside[0], inside.at(-1)];
  return begin === undefined || end === undefined
    ? []
    : points.slice(Math.max(0, begin - 1), end + 2);
}

function nearest(points: Series['points'], at: number): number | null {
  let best: readonly [number, number] | null = null;
  for (const point of points) {
    if (best === null || Math.abs(point[0] - at) < Math.abs(best[0] - at)) {
      best = point;
    }
  }
  return best === null ? null : best[1];
}

/** The ends of the axis: of what is shown, and of the outermost ticks. */
function bounds(values: readonly number[], levels: readonly number[]): [number, number] {
  const all = [...values, ...levels];
  return [Math.min(...all), Math.max(...all)];
}
