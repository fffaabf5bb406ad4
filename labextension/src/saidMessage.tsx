/** What a button has come to, in a line below it; read out at once where it failed. */
import type { JSX, ReactNode } from 'react';

export interface Said {
  text: string;
  failed: boolean;
}

/** Shows `children`, or the text itself without them; nothing where nothing was said. */
export function SaidMessage(props: { said: Said; children?: ReactNode }): JSX.Element | null {
  const { said, children } = props;
  if (said.text === '') {
    return null;
  }
  return (
    <p
      className={`eai-Panel-message${said.failed ? ' eai-mod-error' : ''}`}
      role={said.failed ? 'alert' : 'status'}
    >
      {children ?? said.text}
    </p>
  );
}
