/** What one rank, or all of them, have printed: kept up to date, searched, filtered, saved. */
import { type JSX, type ReactNode, useEffect, useRef, useState } from 'react';
import type { KernelLink } from './kernelConnection';
import { isAtLeast, type Level, LEVELS } from './logLevels';
import { save } from './save';

/** How often the log is asked for. */
const LOG_MS = 2000;
/** Lines that are shown, and lines that are saved: as many as the kernel keeps. */
const SHOWN = 200;
const SAVED = 1_000_000;

interface Props {
  link: KernelLink;
  rank: number | 'all';
  children?: ReactNode;
}

export function LogView({ link, rank, children }: Props): JSX.Element {
  const [log, setLog] = useState('…');
  const [sought, setSought] = useState('');
  const [level, setLevel] = useState<Level>('all lines');
  const [follows, setFollows] = useState(true);
  const text = useRef<HTMLPreElement>(null);
  const name = rank === 'all' ? 'all ranks' : `rank ${rank}`;
  const shown = log
    .split('\n')
    .filter(line => line.toLowerCase().includes(sought.toLowerCase()) && isAtLeast(level, line))
    .join('\n');
  useEffect(() => {
    if (follows) {
      text.current?.scrollTo(0, text.current.scrollHeight);
    }
  }, [follows, shown]);
  useEffect(() => {
    const ask = (): void => {
      link.log(rank, SHOWN).then(
        text => {
          setLog(text === '' ? 'It has printed nothing yet.' : text);
        },
        (error: unknown) => {
          setLog(error instanceof Error ? error.message : String(error));
        }
      );
    };
    ask();
    const timer = window.setInterval(ask, LOG_MS);
    return () => {
      window.clearInterval(timer);
    };
  }, [link, rank]);
  return (
    <div className="eai-Detail" role="region" aria-label={`Log of ${name}`}>
      {children}
      <pre tabIndex={0} ref={text}>
        {shown === '' ? 'No line matches.' : shown}
      </pre>
      <div className="eai-Detail-bar">
        <input
          type="search"
          placeholder="search"
          aria-label="Search the log"
          value={sought}
          onChange={event => {
            setSought(event.target.value);
          }}
        />
        <select
          aria-label="Lines of the log"
          value={level}
          onChange={event => {
            setLevel(event.target.value as Level);
          }}
        >
          {LEVELS.map(one => (
            <option key={one}>{one}</option>
          ))}
        </select>
        <label>
          <input
            type="checkbox"
            checked={follows}
            onChange={event => {
              setFollows(event.target.checked);
            }}
          />
          follow
        </label>
        <button
          className="jp-mod-styled jp-mod-minimal"
          title="Copy the lines shown"
          onClick={() => void navigator.clipboard.writeText(shown)}
        >
          Copy
        </button>
        <button
          className="jp-mod-styled jp-mod-minimal"
          title="Save all lines that the kernel still has as a file"
          onClick={() => {
            link.log(rank, SAVED).then(
              whole => {
                save({ name: `${name.replace(' ', '-')}.log`, type: 'text/plain', text: whole });
              },
              (error: unknown) => {
                setLog(error instanceof Error ? error.message : String(error));
              }
            );
          }}
        >
          Save
        </button>
      </div>
    </div>
  );
}
