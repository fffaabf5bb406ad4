/** Several runs in one picture: loss, metrics, step time and throughput, a line a run. */
import type { Range, View } from './types';
import { FEWEST_POINTS, MOST_CURVES, OVERLAY, TRAINING_COLOUR } from './generated';
import { barLengths, robustTop } from './axis';
import { element } from './drawing';
import { LineChart, type Series } from './lineChart';
import { metricNames, metricSeries, RATE, short, throughputSeries } from './training';
import { count, duration, ms, thousands } from './formatting';

const STEP_TIME = 'step time';
/** Lines of one colour again differ in their dashes. */
const DASHES = ['', '6 3', '2 2'] as const;

interface Look {
  label: string;
  colour: string;
  dash: string;
}

export class Overlay {
  constructor(views: readonly View[]) {
    this._views = views;
    const looks = looksOf(views);
    this._back.textContent = 'All steps';
    this._back.hidden = true;
    this._back.addEventListener('click', () => {
      this._draw(null);
    });
    const charts = element('div', 'eai-Metrics');
    for (const name of names(views)) {
      const format = name === RATE ? thousands : name === STEP_TIME ? ms : short;
      const chart = new LineChart(
        name,
        format,
        range => {
          this._draw(range);
        },
        false
      );
      charts.append(chart.node);
      this._charts.set(name, chart);
    }
    this._looks = looks;
    this.node.append(legend(looks), this._back, charts, table(views, looks));
    this._observer = new ResizeObserver(() => {
      this._draw(this._range);
    });
    this._observer.observe(this.node);
  }

  readonly node = element('div', 'eai-Chart eai-mod-large eai-Overlay');

  dispose(): void {
    this._observer.disconnect();
  }

  private _draw(range: Range | null): void {
    this._range = range;
    this._back.hidden = range === null;
    this._charts.forEach((chart, name) => {
      const lines = this._views.map((view, position) => ({
        points: pointsOf(view, name),
        ...(this._looks[position] ?? { label: '', colour: TRAINING_COLOUR, dash: '' })
      }));
      chart.draw(lines, range);
    });
  }

  private readonly _views: readonly View[];
  private readonly _looks: readonly Look[];
  private readonly _charts = new Map<string, LineChart>();
  private readonly _back = document.createElement('button');
  private readonly _observer: ResizeObserver;
  private _range: Range | null = null;
}

/** A run's name; runs of one name also have the time at which they began. */
function looksOf(views: readonly View[]): Look[] {
  return views.map(({ run }, position) => {
    const isAlone = views.filter(other => other.run.name === run.name).length === 1;
    const time = new Date(1000 * run.started).toLocaleTimeString([], {
      hour: '2-digit',
      minute: '2-digit',
      second: '2-digit'
    });
    return {
      label: isAlone ? run.name : `${run.name} ${time}`,
      colour: OVERLAY[position % OVERLAY.length] ?? TRAINING_COLOUR,
      dash: DASHES[Math.floor(position / OVERLAY.length) % DASHES.length] ?? ''
    };
  });
}

/** What any of the runs has: its metrics, also of validation, then how quick it was. */
function names(views: readonly View[]): string[] {
  const metrics = new Set<string>();
  for (const { training } of views) {
    for (const name of metricNames(training).slice(0, MOST_CURVES)) {
      metrics.add(name);
      if (training?.values[`val_${name}`] != null) {
        metrics.add(`val_${name}`);
      }
    }
  }
  const rate = views.some(view => throughputSeries(view).points.length >= FEWEST_POINTS);
  return [...metrics, STEP_TIME, ...(rate ? [RATE] : [])];
}

function pointsOf(view: View, name: string): Series['points'] {
  if (name === STEP_TIME) {
    const lengths = barLengths(view.buckets);
    const top = robustTop(lengths);
    // The step that compiles would flatten all others.
    return lengths.flatMap((length, position): [number, number][] => {
      const start = view.buckets.step[position] ?? 0;
      const stop = view.buckets.stop[position] ?? start + 1;
      return length > top ? [] : [[(start + stop) / 2, length]];
    });
  }
  if (name === RATE) {
    return throughputSeries(view).points;
  }
  if (view.training === null) {
    return [];
  }
  const metric = name.replace(/^val_/, '');
  return metricSeries(view.training, metric).find(each => each.label === name)?.points ?? [];
}

function legend(looks: readonly Look[]): HTMLElement {
  return element(
    'div',
    'eai-Chart-legend',
    ...looks.map(look => {
      const mark = element('span', 'eai-Chart-swatch');
      mark.style.background = look.colour;
      return element('span', 'eai-Chart-entry', mark, look.label);
    })
  );
}

/** The same runs in numbers. */
function table(views: readonly View[], looks: readonly Look[]): HTMLElement {
  const known = [...new Set(views.flatMap(view => Object.keys(view.training?.values ?? {})))];
  const made = document.createElement('table');
  const head = ['run', 'ranks', 'steps', 'took', 'a step', RATE, ...known];
  made.append(
    row('th', head),
    ...views.map((view, position) => {
      const { run, rates, training } = view;
      const took = run.ended === null ? '–' : duration(Math.max(0, run.ended - run.started));
      return row('td', [
        looks[position]?.label ?? run.name,
        String(run.size),
        count(run.steps),
        took,
        rates.step_ms === null ? '–' : ms(rates.step_ms),
        rates.samples_per_s === null ? '–' : count(rates.samples_per_s),
        ...known.map(name => short(training?.values[name] ?? null))
      ]);
    })
  );
  const scrolled = element('div', 'eai-Overlay-table', made);
  scrolled.tabIndex = 0;
  scrolled.setAttribute('role', 'group');
  scrolled.setAttribute('aria-label', 'The runs in numbers');
  return scrolled;
}

function row(kind: 'th' | 'td', texts: readonly string[]): HTMLElement {
  return element(
    'tr',
    '',
    ...texts.map((text, position) => {
      const cell = element(position === 0 ? 'th' : kind, '', text);
      cell.setAttribute('scope', kind === 'th' ? 'col' : 'row');
      if (kind === 'td' && position > 0) {
        cell.removeAttribute('scope');
      }
      return cell;
    })
  );
}
