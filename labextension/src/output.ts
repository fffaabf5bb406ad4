/**
 * The output of a cell whose run goes on, drawn by the panel's chart.
 *
 * The kernel puts the view into the output now and then; in between the output follows what
 * the panel is sent. After a reload the cell's own messages are lost to JupyterLab: then the
 * output ends the run by itself, with the picture that the kernel would have put there.
 */
import type { IRenderMime } from '@jupyterlab/rendermime-interfaces';
import { Widget } from '@lumino/widgets';
import { Chart } from './chart';
import { RUN_MIME } from './generated';
import { type Arrival, arrivals } from './live';
import type { View } from './types';

/** The kernel ends the output itself unless the page was reloaded meanwhile. */
const END_MS = 2000;

class RunOutput extends Widget implements IRenderMime.IRenderer {
  constructor() {
    super();
    this.addClass('eai-RunOutput');
    this._chart = new Chart(this.node);
    arrivals.arrived.connect(this._onArrival);
  }

  async renderModel(model: IRenderMime.IMimeModel): Promise<void> {
    this._model = model;
    const view = model.data[RUN_MIME] as unknown as View;
    this._run = view.run.id;
    this._chart.draw(view);
    return Promise.resolve();
  }

  override dispose(): void {
    if (!this.isDisposed) {
      window.clearTimeout(this._timer);
      arrivals.arrived.disconnect(this._onArrival);
      this._chart.dispose();
      super.dispose();
    }
  }

  private readonly _onArrival = (_: unknown, { view, picture, section }: Arrival): void => {
    if (view.run.id !== this._run) {
      return;
    }
    this._chart.askSection = section;
    this._chart.draw(view);
    if (view.run.state !== 'running' && this._timer === 0) {
      this._timer = window.setTimeout(() => {
        void picture().then(({ data }) => {
          if (!this.isDisposed) {
            this._model?.setData({ data });
          }
        });
      }, END_MS);
    }
  };

  private _model: IRenderMime.IMimeModel | null = null;
  private _run = '';
  private _timer = 0;
  private readonly _chart: Chart;
}

/** It draws numbers and text only, so it needs no trust. */
export const runRenderer: IRenderMime.IRendererFactory = {
  safe: true,
  mimeTypes: [RUN_MIME],
  defaultRank: 0,
  createRenderer: () => new RunOutput()
};
