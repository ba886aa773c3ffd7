/** The look of `/docs`: system fonts, light and dark, one column on a phone. */
export const STYLE = `
:root { color-scheme: light dark; --line: light-dark(#d9dde3, #363c46); --soft: light-dark(#f4f6f8, #1d2127);
  --text: light-dark(#1c2430, #e4e8ee); --dim: light-dark(#566070, #a3adba); --link: light-dark(#0b5cad, #7db8ff);
  --page: light-dark(#fff, #14171b); }
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; }
body { margin: 0; font: 16px/1.55 system-ui, sans-serif; color: var(--text); background: var(--page); }
a { color: var(--link); text-underline-offset: 2px; }
code, pre { font: 0.88em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
code { overflow-wrap: anywhere; }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: 6px; padding: 0.75rem; overflow-x: auto; }
i { font-style: normal; color: var(--dim); font-size: 0.88em; }
.skip { position: absolute; left: -99rem; } .skip:focus { left: 1rem; top: 1rem; background: var(--page); padding: 0.5rem; }
nav { padding: 1rem 1.25rem; background: var(--soft); border-bottom: 1px solid var(--line); font-size: 0.86rem; }
nav p { margin: 0.9rem 0 0.2rem; font-weight: 600; } nav .name { font-size: 1.1rem; margin-top: 0; }
nav ul { list-style: none; margin: 0; padding: 0; } nav a { text-decoration: none; overflow-wrap: anywhere; }
nav small { color: var(--dim); font-weight: 400; }
main { padding: 1.5rem 1.25rem 4rem; max-width: 60rem; }
h1 { margin: 0 0 0.5rem; } h2 { margin: 3rem 0 0.25rem; } h4 { margin: 1.25rem 0 0.25rem; }
article { border: 1px solid var(--line); border-radius: 8px; padding: 0.25rem 1.1rem 1rem; margin: 1.25rem 0; }
article:target, tr:target { outline: 2px solid var(--link); }
h3 { margin: 0.75rem 0 0; font-size: 1.05rem; } h3 a { color: inherit; text-decoration: none; }
b.get, b.post, b.delete { font-size: 0.8em; letter-spacing: 0.03em; }
b.get { color: light-dark(#0b6b3a, #6fd39b); } b.post { color: light-dark(#0b5cad, #7db8ff); }
b.delete { color: light-dark(#a8261b, #ff9a8f); }
.security { color: var(--dim); font-size: 0.92em; }
.schema { margin: 0.2rem 0; padding-left: 1.1rem; list-style: none; border-left: 2px solid var(--line); }
.answer { margin: 0.35rem 0; } details.answer > summary { cursor: pointer; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; font-size: 0.92em; }
th, td { text-align: left; vertical-align: top; padding: 0.4rem 0.6rem; border-bottom: 1px solid var(--line); }
td code { white-space: nowrap; }
dt { margin-top: 0.75rem; } dd { margin: 0; }
@media (min-width: 60rem) {
  body { display: grid; grid-template-columns: 19rem 1fr; }
  nav { position: sticky; top: 0; height: 100vh; overflow-y: auto; border: 0; border-right: 1px solid var(--line); }
  main { padding: 2rem 2.5rem 6rem; }
}
`
