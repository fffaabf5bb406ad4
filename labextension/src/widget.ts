/** The notebook widget: the same chart, fed by the `view` trait of `display/chart_widget.py`. */
import chartStyle from '../style/chart.css';
import { Chart } from './chart';
import type { View } from './types';

interface Model {
  get(name: 'view'): View;
  on(event: string, callback: () => void): void;
  off(event: string, callback: () => void): void;
}

const STYLE_ID = 'eai-chart-style';

function render({ model, el }: { model: Model; el: HTMLElement }): () => void {
  if (document.getElementById(STYLE_ID) === null) {
    const style = document.createElement('style');
    style.id = STYLE_ID;
    style.textContent = chartStyle;
    document.head.append(style);
  }
  const chart = new Chart(el);
  const draw = (): void => {
    chart.draw(model.get('view'));
  };
  draw();
  model.on('change:view', draw);
  return () => {
    model.off('change:view', draw);
    chart.dispose();
  };
}

export default { render };
