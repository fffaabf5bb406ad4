/** Loss and metrics of a run: progress, and a small curve for each (`display/training_html.py`). */
import type { View } from './types';
import type { Series } from './lineChart';
import { count, duration } from './formatting';
import {
  CURVE_TALL,
  CURVE_WIDE,
  FEWEST_POINTS,
  MOST_CURVES,
  RATE_COLOUR,
  TRAINING_COLOUR,
  VALIDATION_COLOUR
} from './generated';

type Training = NonNullable<View['training']>;
type Point = readonly [number, number];

/** The lines of one metric: the ranks' mean over the steps, and validation at each epoch's end. */
export function metricSeries(training: Training, name: string): Series[] {
  return [
    { label: name, points: points(training, name), colour: TRAINING_COLOUR, dash: '' },
    {
      label: `val_${name}`,
      points: ends(training, `val_${name}`),
      colour: VALIDATION_COLOUR,
      dash: '3 2'
    }
  ];
}

/** What the throughput of all ranks is called. */
export const RATE = 'samples/s';

/** The throughput of all ranks, at the middle of each stretch of steps. */
export function throughputSeries(view: View): Series {
  const { step, stop, samples_per_s: rates = [] } = view.buckets;
  const points = rates.flatMap((rate, position): Point[] => {
    const start = step[position] ?? 0;
    return rate === null ? [] : [[(start + (stop[position] ?? start)) / 2, rate]];
  });
  return { label: RATE, points, colour: RATE_COLOUR, dash: '' };
}

/** The metrics that get a curve. */
export function metricNames(training: View['training']): string[] {
  return training === null
    ? []
    : Object.keys(training.values).filter(name => !name.startsWith('val_'));
}

const SVG = 'http://www.w3.org/2000/svg';

export class TrainingSection {
  /** Without small curves where there are large ones. */
  constructor(hasCurves = true) {
    this._hasCurves = hasCurves;
    this.node.className = 'eai-Training';
    this._bar.className = 'eai-Training-bar';
    this._bar.setAttribute('role', 'progressbar');
    this._bar.setAttribute('aria-label', 'Steps of the training');
    this._bar.append(this._done);
    this._line.className = 'eai-Chart-rates';
    this._curves.className = 'eai-Training-curves';
    this._more.className = 'eai-Chart-rates';
    this.node.append(this._line, this._bar, this._curves, this._more);
  }

  readonly node = document.createElement('div');

  draw(view: View): void {
    const { training } = view;
    this._line.textContent = progressLine(view);
    const share =
      training?.steps == null ? null : Math.min(1, view.run.steps / Math.max(1, training.steps));
    this._bar.hidden = share === null || view.run.state !== 'running';
    this._bar.setAttribute('aria-valuenow', String(Math.round(100 * (share ?? 0))));
    this._done.style.width = `${100 * (share ?? 0)}%`;
    const names = metricNames(training);
    const rate = throughputSeries(view);
    const drawn = names.slice(0, MOST_CURVES).map(name => ({
      name,
      lines: training === null ? [] : metricSeries(training, name)
    }));
    if (rate.points.length >= FEWEST_POINTS) {
      drawn.push({ name: RATE, lines: [rate] });
    }
    const last = (label: string): string =>
      label === RATE ? count(rate.points.at(-1)?.[1] ?? 0) : short(training?.values[label] ?? null);
    this._curves.replaceChildren(
      ...(this._hasCurves ? drawn.map(({ name, lines }) => curve(name, lines, last)) : [])
    );
    this._more.textContent = names
      .slice(this._hasCurves ? MOST_CURVES : 0)
      .map(name => `${name} ${short(training?.values[name] ?? null)}`)
      .join(' · ');
  }

  private readonly _hasCurves: boolean;
  private readonly _line = document.createElement('div');
  private readonly _bar = document.createElement('div');
  private readonly _done = document.createElement('div');
  private readonly _curves = document.createElement('div');
  private readonly _more = document.createElement('div');
}

/** How far a run has come: epoch, step, time taken and, while it goes on, time left. */
function progressLine(view: View): string {
  const { run, training } = view;
  const fragments: string[] = [];
  if (training !== null) {
    fragments.push(`epoch ${training.epoch}${of(training.epochs)}`);
    fragments.push(`step ${count(run.steps)}${of(training.steps)}`);
  }
  if (run.ended !== null) {
    const took = duration(Math.max(0, run.ended - run.started));
    fragments.push(run.state === 'done' ? `took ${took}` : `${run.state} after ${took}`);
  } else if (run.state === 'running' && run.steps > 0) {
    const elapsed = Math.max(0, Date.now() / 1000 - run.started);
    fragments.push(`${duration(elapsed)} elapsed`);
    const left = secondsLeft(view, elapsed);
    if (left !== null) {
      fragments.push(`about ${duration(Math.round(left))} left`);
    }
  }
  return fragments.join(' · ');
}

/** The longest step, which compiles, comes once and is left out of the pace. */
function secondsLeft(view: View, elapsed: number): number | null {
  const { run, training, buckets } = view;
  if (training?.steps == null || run.steps < 2 || buckets.longest === null) {
    return null;
  }
  const pace = Math.max(0, elapsed - (buckets.longest.ms ?? 0) / 1000) / (run.steps - 1);
  return pace > 0 ? Math.max(0, training.steps - run.steps) * pace : null;
}

/** Lines in one small plot, each with its last value. */
function curve(
  name: string,
  drawn: readonly Series[],
  last: (label: string) => string
): HTMLElement {
  const host = document.createElement('div');
  const labels = drawn.flatMap(({ label, colour, points: own }) => {
    if (own.length === 0) {
      return [];
    }
    const dot = document.createElement('span');
    dot.style.color = colour;
    dot.textContent = '●\u00a0';
    const text = document.createElement('span');
    text.append(dot, `${label} ${last(label)} `);
    return [text];
  });
  const picture = document.createElementNS(SVG, 'svg');
  picture.setAttribute('viewBox', `0 0 ${CURVE_WIDE} ${CURVE_TALL}`);
  picture.setAttribute('preserveAspectRatio', 'none');
  picture.setAttribute('role', 'img');
  picture.setAttribute('aria-label', `${name} over the steps`);
  const known = drawn.flatMap(one => one.points);
  for (const { points: own, colour, dash } of drawn) {
    if (own.length > 0) {
      picture.append(line(own, known, colour, dash));
    }
  }
  host.append(...labels, picture);
  return host;
}

function line(
  own: readonly Point[],
  known: readonly Point[],
  colour: string,
  dash: string
): SVGPolylineElement {
  const last = Math.max(...known.map(([step]) => step)) || 1;
  const values = known.map(([, value]) => value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const path = own.map(([step, value]): Point => [
    (CURVE_WIDE * step) / last,
    2 + (CURVE_TALL - 4) * (1 - (value - low) / (high - low || 1))
  ]);
  const [only] = path;
  if (path.length === 1 && only !== undefined) {
    // A line of one point is not seen.
    path.unshift([Math.max(0, only[0] - 4), only[1]]);
  }
  const made = document.createElementNS(SVG, 'polyline');
  made.setAttribute('points', path.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(' '));
  made.setAttribute('fill', 'none');
  made.setAttribute('stroke', colour);
  made.setAttribute('stroke-width', '1.5');
  made.setAttribute('vector-effect', 'non-scaling-stroke');
  if (dash !== '') {
    made.setAttribute('stroke-dasharray', dash);
  }
  return made;
}

/** A metric over the steps, or over epochs if it is known at their ends only. */
function points(training: Training, name: string): Point[] {
  const { step, value } = training.curves[name] ?? { step: [], value: [] };
  const own = step.flatMap((at, place): Point[] => {
    const known = value[place] ?? null;
    return known === null ? [] : [[at, known]];
  });
  return own.length > 0 ? own : ends(training, name);
}

function ends(training: Training, name: string): Point[] {
  return training.ends.flatMap((end): Point[] => {
    const known = end.values[name] ?? null;
    return known === null ? [] : [[end.step, known]];
  });
}

function of(number: number | null): string {
  return number === null ? '' : ` of ${count(number)}`;
}

export function short(value: number | null): string {
  return value === null ? '–' : String(Number(value.toPrecision(4)));
}
