/** CPU, memory, network and GPU of the ranks over the time of a run, each in a chart. */
import type { View } from './types';
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
  readonly node = element('div', 'eai-Metrics eai-Vitals');

  draw(view: View): void {
    const vitals = view.vitals ?? null;
    const names = Object.keys(QUANTITIES).filter(name => vitals?.lines[name] !== undefined);
    if (names.join() !== [...this._charts.keys()].join()) {
      this._charts = new Map(
        names.map(name => {
          const [title, format] = QUANTITIES[name] ?? [name, whole];
          return [name, new LineChart(title, format, null, true, duration)] as const;
        })
      );
      this.node.replaceChildren(...[...this._charts.values()].map(chart => chart.node));
    }
    const width = vitals?.width_s ?? 1;
    this._charts.forEach((chart, name) => {
      chart.draw(series(vitals?.lines[name] ?? [], width), null);
    });
  }

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
