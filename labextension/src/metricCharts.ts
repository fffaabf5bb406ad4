/** The metrics of a run, each in a chart with axes: what a tab shows of them. */
import type { Range, View } from './types';
import { FEWEST_POINTS, MOST_CURVES } from './generated';
import { element } from './drawing';
import { LineChart } from './lineChart';
import { metricNames, metricSeries, RATE, short, throughputSeries } from './training';
import { thousands } from './formatting';

export class MetricCharts {
  constructor(onRange: (range: Range | null) => void) {
    this._onRange = onRange;
  }

  readonly node = element('div', 'eai-Metrics');

  draw(view: View, range: Range | null): void {
    const { training } = view;
    const rate = throughputSeries(view);
    const names = metricNames(training).slice(0, MOST_CURVES);
    if (rate.points.length >= FEWEST_POINTS) {
      names.push(RATE);
    }
    if (names.join() !== [...this._charts.keys()].join()) {
      this._charts = new Map(
        names.map(
          name =>
            [name, new LineChart(name, name === RATE ? thousands : short, this._onRange)] as const
        )
      );
      this.node.replaceChildren(...[...this._charts.values()].map(chart => chart.node));
    }
    this._charts.forEach((chart, name) => {
      const lines = training === null ? [] : metricSeries(training, name);
      chart.draw(name === RATE ? [rate] : lines, range);
    });
  }

  private _charts = new Map<string, LineChart>();
  private readonly _onRange: (range: Range | null) => void;
}
