/** How serious a line of a log is, by the marks of Python's, TensorFlow's and Jupyter's loggers. */

export const LEVELS = ['all lines', 'warnings', 'errors'] as const;
export type Level = (typeof LEVELS)[number];

const ERROR =
  /\b(ERROR|CRITICAL|FATAL)\b|\bTraceback \(most recent|^\s*(\[[^\]]*\] )?[A-Za-z_.]*(Error|Exception)\b|^(\[\d+\] )?[EF]\d{4} |\[[EC] /;
const WARNING = /\bWARN(ING)?\b|[A-Za-z]*Warning:|^(\[\d+\] )?W\d{4} |\[W /i;

/** Whether a line is at least as serious as a level asks. */
export function isAtLeast(level: Level, line: string): boolean {
  switch (level) {
    case 'all lines':
      return true;
    case 'warnings':
      return WARNING.test(line) || ERROR.test(line);
    case 'errors':
      return ERROR.test(line);
  }
}
