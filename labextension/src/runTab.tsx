/** A run in a tab of the main area: the panel's chart, larger, with axes on every curve. */
import { MainAreaWidget } from '@jupyterlab/apputils';
import { ReactWidget, UseSignal } from '@jupyterlab/ui-components';
import type { JSX } from 'react';
import { ChartHost } from './chartHost';
import { ledgerIcon } from './icon';
import type { KernelLink } from './kernelConnection';
import { RunHeading } from './ledgerSection';
import type { View } from './types';

/** Shows a kernel's current run as it goes on, or one run from its record. */
class RunTab extends ReactWidget {
  constructor(link: KernelLink, recorded: View | null) {
    super();
    this._link = link;
    this._recorded = recorded;
    this.addClass('eai-Panel');
    this.addClass('eai-Tab');
  }

  protected override render(): JSX.Element {
    return (
      <UseSignal signal={this._link.state.changed}>
        {() => {
          const view = this._recorded ?? this._link.state.view;
          return (
            <section className="eai-Panel-section" aria-label="Run">
              <RunHeading view={view} />
              {view !== null && <ChartHost link={this._link} view={view} isLarge />}
            </section>
          );
        }}
      </UseSignal>
    );
  }

  private readonly _link: KernelLink;
  private readonly _recorded: View | null;
}

/** A tab of the kernel's current run, or of a run from its record. */
export function runTab(link: KernelLink, recorded: View | null): MainAreaWidget {
  const tab = new MainAreaWidget({ content: new RunTab(link, recorded) });
  const run = recorded?.run ?? link.state.view?.run;
  tab.id = `eai-notebook-run-${link.id}-${recorded?.run.id ?? 'now'}`;
  tab.title.label = run?.name ?? 'Run';
  tab.title.caption = recorded === null ? 'The current run' : 'A recorded run';
  tab.title.icon = ledgerIcon;
  tab.title.closable = true;
  return tab;
}
