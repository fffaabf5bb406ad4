/** Earlier runs where no notebook is open: read by a kernel that is started for it. */
import type { Session } from '@jupyterlab/services';
import { type JSX, useState } from 'react';
import { KernelLink } from './kernelConnection';
import { LedgerSection } from './ledgerSection';
import type { Tabs } from './panel';
import { RunsSection } from './runsSection';
import type { View } from './types';

/** The name of the kernel's session, in the list of what runs. */
const NAME = 'Earlier runs';
/** The folder of the notebook that was in front last, relative to the server's. */
const FOLDER = 'eai-notebook:folder';

/** Note where the notebook in front is: its runs lie beside it. */
export function noteFolder(path: string): void {
  window.localStorage.setItem(FOLDER, path.split('/').slice(0, -1).join('/'));
}

interface Props {
  sessions: Session.IManager;
  tabs: Tabs | null;
}

export function RecordsView({ sessions, tabs }: Props): JSX.Element {
  const [reader, setReader] = useState<{ link: KernelLink; end: () => void } | null>(null);
  const [opened, setOpened] = useState<View | null>(null);
  const [said, setSaid] = useState('');
  if (reader === null) {
    return (
      <section className="eai-Panel-section" aria-label="Runs">
        <h2>Runs</h2>
        <p className="eai-Panel-hint">Open a notebook to start a group of ranks from here.</p>
        <div className="eai-Panel-buttons">
          <button
            className="jp-mod-styled"
            title="Starts a kernel that reads the records of runs"
            onClick={() => {
              setSaid('Starting a kernel to read them…');
              connect(sessions).then(
                session => {
                  const { kernel } = session;
                  if (kernel === null) {
                    return;
                  }
                  const link = new KernelLink(kernel);
                  setReader({
                    link,
                    end: () => {
                      link.dispose();
                      void session.shutdown();
                      setReader(null);
                    }
                  });
                  setSaid('');
                },
                (error: unknown) => {
                  setSaid(error instanceof Error ? error.message : String(error));
                }
              );
            }}
          >
            Show earlier runs
          </button>
        </div>
        {said !== '' && (
          <p className="eai-Panel-message" role="status">
            {said}
          </p>
        )}
      </section>
    );
  }
  return (
    <>
      {opened !== null && (
        <LedgerSection
          link={reader.link}
          group={null}
          view={opened}
          isRecorded
          insert={null}
          openTab={
            tabs === null
              ? null
              : recorded => {
                  tabs.openRun(reader.link, recorded);
                }
          }
          onClose={() => {
            setOpened(null);
          }}
        />
      )}
      <RunsSection
        link={reader.link}
        isRunning={false}
        isListed
        onOpen={setOpened}
        openRuns={tabs?.openRuns ?? null}
      />
      <section className="eai-Panel-section">
        <button
          className="jp-mod-styled"
          title="End the kernel that reads them"
          onClick={reader.end}
        >
          Close
        </button>
      </section>
    </>
  );
}

/** Start the kernel, or find the one of a page that was reloaded. */
async function connect(sessions: Session.IManager): Promise<Session.ISessionConnection> {
  const folder = window.localStorage.getItem(FOLDER) ?? '';
  const path = folder === '' ? NAME : `${folder}/${NAME}`;
  await sessions.refreshRunning();
  const running = [...sessions.running()].find(model => model.path === path);
  return running === undefined
    ? sessions.startNew({ path, name: NAME, type: 'console', kernel: { name: '' } })
    : sessions.connectTo({ model: running });
}
