/** esbuild turns a style sheet into text for the widget. */
declare module '*.css' {
  const text: string;
  export default text;
}
