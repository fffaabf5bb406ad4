/** The panel: the group, its ranks, the ledger of the run that goes on, and earlier runs. */
import { ReactWidget, UseSignal } from '@jupyterlab/ui-components';
import type { Session } from '@jupyterlab/services';
import type { Message } from '@lumino/messaging';
import { Signal } from '@lumino/signaling';
import { type JSX, useState } from 'react';
import { widenOnce } from './firstWidth';
import { GroupSection } from './groupSection';
import { ledgerIcon } from './icon';
import { LedgerSection } from './ledgerSection';
import type { KernelLink } from './kernelConnection';
import type { View } from './types';
import { RecordsView } from './recordsView';
import { RankSection } from './rankSection';
import { RunsSection } from './runsSection';

/** Put code into a new cell of the notebook, with an output if there is one. */
export type Insert = (code: string, data?: Record<string, string>) => void;

/** Tabs of the main area. */
export interface Tabs {
  /** Show a kernel's current run, or one from its record. */
  openRun: (link: KernelLink, recorded: View | null) => void;
  /** Show several recorded runs together. */
  openRuns: (views: readonly View[]) => void;
}

export class LedgerPanel extends ReactWidget {
  /** `tabs` is null where the front end shows one document at a time. */
  constructor(insert: Insert, tabs: Tabs | null, sessions: Session.IManager) {
    super();
    this._insert = insert;
    this._tabs = tabs;
    this._sessions = sessions;
    this.id = 'eai-notebook-panel';
    this.title.icon = ledgerIcon;
    this.title.caption = 'Ranks and ledger';
    this.addClass('eai-Panel');
  }

  /** Show the kernel of another notebook; null if there is none. */
  showKernel(link: KernelLink | null, notebook: string): void {
    this._link = link;
    this._notebook = notebook;
    this._switched.emit();
  }

  protected override onAfterShow(message: Message): void {
    super.onAfterShow(message);
    // Its area has a width in the next frame.
    requestAnimationFrame(() => {
      widenOnce(this);
    });
  }

  protected override render(): JSX.Element {
    return (
      <UseSignal signal={this._switched}>
        {() =>
          this._link === null ? (
            <RecordsView sessions={this._sessions} tabs={this._tabs} />
          ) : (
            // A UseSignal does not follow when its signal changes: another link, another view.
            <KernelView
              key={this._link.id}
              link={this._link}
              notebook={this._notebook}
              insert={this._insert}
              tabs={this._tabs}
            />
          )
        }
      </UseSignal>
    );
  }

  private _link: KernelLink | null = null;
  private _notebook = '';
  private readonly _insert: Insert;
  private readonly _tabs: Tabs | null;
  private readonly _sessions: Session.IManager;
  private readonly _switched = new Signal<this, void>(this);
}

interface KernelViewProps {
  link: KernelLink;
  notebook: string;
  insert: Insert;
  tabs: Tabs | null;
}

function KernelView({ link, notebook, insert, tabs }: KernelViewProps): JSX.Element {
  const [opened, setOpened] = useState<View | null>(null);
  return (
    <UseSignal signal={link.state.changed}>
      {() => {
        const { group, view } = link.state;
        return (
          <>
            <GroupSection link={link} notebook={notebook} insert={insert} />
            {group !== null && group.ranks.length > 0 && (
              <RankSection link={link} group={group} view={view} />
            )}
            <LedgerSection
              link={link}
              group={group}
              view={opened ?? view}
              isRecorded={opened !== null}
              insert={insert}
              openTab={
                tabs === null
                  ? null
                  : recorded => {
                      tabs.openRun(link, recorded);
                    }
              }
              onClose={() => {
                setOpened(null);
              }}
            />
            <RunsSection
              link={link}
              isRunning={view?.run.state === 'running'}
              onOpen={setOpened}
              openRuns={tabs?.openRuns ?? null}
            />
          </>
        );
      }}
    </UseSignal>
  );
}
