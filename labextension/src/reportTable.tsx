/** The report of a run: its numbers as a table, to read and to copy. */
import type { JSX } from 'react';
import { background } from './partPattern';
import { markdownTable } from './markdown';
import type { Report } from './types';

interface Props {
  report: Report;
  onClose: () => void;
}

export function ReportTable({ report, onClose }: Props): JSX.Element {
  const { lines, table, notes } = report;
  const [head = [], ...rows] = table;
  return (
    <div className="eai-Panel-report" role="region" aria-label="Report">
      {lines.map(line => (
        <p key={line}>{plain(line)}</p>
      ))}
      <div className="eai-Panel-scrolled" tabIndex={0} role="group" aria-label="Parts of a step">
        <table>
          <thead>
            <tr>
              {head.map(title => (
                <th key={title} scope="col">
                  {title}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {rows.map(([part = '', ...values]) => (
              <tr key={part}>
                <th scope="row">
                  <span className="eai-Chart-swatch" style={{ background: background(part) }} />
                  {part}
                </th>
                {values.map((value, place) => (
                  // A part that was not measured has one cell.
                  <td key={head[place + 1]} colSpan={values.length === 1 ? head.length - 1 : 1}>
                    {value}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {notes.map(line => (
        <p key={line} className="eai-Panel-faint">
          {plain(line)}
        </p>
      ))}
      <div className="eai-Panel-buttons">
        <button
          className="jp-mod-styled"
          title="Copy the report with its table as Markdown"
          onClick={() => void navigator.clipboard.writeText(inMarkdown(report))}
        >
          Copy report
        </button>
        <button className="jp-mod-styled" title="Close the report" onClick={onClose}>
          Close
        </button>
      </div>
    </div>
  );
}

function inMarkdown({ lines, table, notes }: Report): string {
  const wide = table[0]?.length ?? 0;
  const whole = table.map(row => [...row, ...Array<string>(wide - row.length).fill('')]);
  return [...lines, markdownTable(whole), ...notes].join('\n\n');
}

function plain(text: string): string {
  return text.replaceAll('`', '');
}
