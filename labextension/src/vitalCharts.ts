/** CPU, memory, network and GPU of the ranks over the time of a run, each in a chart. */
import type { Range, View } from './types';
import { element } from './drawing';
import { amount, duration } from './formatting';
import { OVERLAY } from './generated';
import { LineChart, type Series } from './lineChart';

const MB = 1e6;

/** Each quantity that the kernel may send, its title and how a value of it is written. */
const QUANTITIES: Readonly<Record<string, readonly [string, (value: number) => string]>> = {
  cpu_pct: ['CPU of a rank, % of one core', whole],
  memory_mb: ['memory of a rank', megabytes],
  network_mb_per_s: ['network of a host, both ways', value => `${megabytes(value)}/s`],
  gpu_pct: ['GPU of a rank, % of the time busy', whole],
  gpu_memory_mb: ['GPU memory of a rank', megabytes]
};

export class VitalCharts {
  constructor() {
    const back = document.createElement('button');
    back.textContent = 'All of the time';
    back.title = 'Show the whole time again (Escape, or a double click)';
    back.addEventListener('click', () => {
      this._zoom(null);
    });
    this._zoomed.append(this._words, back);
    this._zoomed.setAttribute('role', 'status');
    this.node.append(this._zoomed, this._plots);
  }

  readonly node = element('div', 'eai-Vitals');

  draw(view: View): void {
    if (view.run.id !== this._view?.run.id) {
      this._range = null;
    }
    this._view = view;
    const vitals = view.vitals ?? null;
    const names = Object.keys(QUANTITIES).filter(name => vitals?.lines[name] !== undefined);
    if (names.join() !== [...this._charts.keys()].join()) {
      this._charts = new Map(
        names.map(name => {
          const [title, format] = QUANTITIES[name] ?? [name, whole];
          return [name, this._chart(title, format)] as const;
        })
      );
      this._plots.replaceChildren(...[...this._charts.values()].map(chart => chart.node));
    }
    const width = vitals?.width_s ?? 1;
    this._charts.forEach((chart, name) => {
      chart.draw(series(vitals?.lines[name] ?? [], width), this._range);
    });
    const { _range: range } = this;
    this._zoomed.hidden = range === null;
    this._words.textContent =
      range === null ? '' : `${clock(range.first)} to ${clock(range.stop)} of the run`;
  }

  /** All quantities are shown over the same stretch of time. */
  private _chart(title: string, format: (value: number) => string): LineChart {
    const zoom = (range: Range | null): void => {
      this._zoom(range);
    };
    return new LineChart(title, format, zoom, true, clock);
  }

  private _zoom(range: Range | null): void {
    this._range = range;
    if (this._view !== null) {
      this.draw(this._view);
    }
  }

  private _view: View | null = null;
  /** Seconds from the run's begin on; null is all of them. */
  private _range: Range | null = null;
  private readonly _zoomed = element('div', 'eai-Chart-zoomed');
  private readonly _words = element('span', '');
  private readonly _plots = element('div', 'eai-Metrics');
  private _charts = new Map<string, LineChart>();
}

/** A line has a colour and, from the seventh on, dashes as well. */
function series(lines: NonNullable<View['vitals']>['lines'][string], width: number): Series[] {
  return lines.map(({ label, values }, position) => ({
    label,
    colour: OVERLAY[position % OVERLAY.length] ?? '',
    dash: position < OVERLAY.length ? '' : '4 3',
    points: values.flatMap((value, at): [number, number][] =>
      value === null ? [] : [[(at + 0.5) * width, value]]
    )
  }));
}

function whole(value: number): string {
  return String(Math.round(value));
}

function megabytes(value: number): string {
  return amount(MB * value);
}

/** A time of the run, in seconds from its begin on. */
function clock(seconds: number): string {
  return duration(Math.round(seconds));
}
