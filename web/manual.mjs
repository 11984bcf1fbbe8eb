// Renders manual/LANGUAGE/*.md: into the pages that the server has below `/manual`, and into one page for paper. The
// texts are our own, so the HTML in them is taken as it is.

import { Marked } from 'marked';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const MANUAL = fileURLToPath(new URL('../manual/', import.meta.url));
/** In the order of the pages; the first is that of `/manual`. */
export const PAGES = ['README', 'phone', 'door', 'desk', 'sampling', 'tube-form', 'operators', 'metrics'];
/** A picture is read on a phone whose network has just come back. */
const PICTURE_BYTES_MAX = 30_000;

/** What the frame of a page says. */
const WORDS = {
  'zh-CN': {
    manual: '健康码服务手册',
    print: '打印本页',
    kept: '整本手册已保存在本设备上，没有网络也能打开。',
    notKept: '手册还没有保存在本设备上，没有网络时打不开。',
  },
  en: {
    manual: 'Health code manual',
    print: 'Print this page',
    kept: 'The whole manual is kept on this device and opens without a network.',
    notKept: 'The manual is not kept on this device yet: without a network it does not open.',
  },
};

const marked = new Marked({
  renderer: {
    // On a narrow screen a row is a card, and each cell names its column.
    table({ header, rows }) {
      const text = (cell) => this.parser.parseInline(cell.tokens);
      const label = (column) => header[column].text.replace(/[*`]/g, '').replace(/"/g, '&quot;');
      const body = rows.map((row) => {
        const cells = row.map((cell, column) => `<td data-label="${label(column)}">${text(cell)}</td>`);
        return `<tr>${cells.join('')}</tr>`;
      });
      const head = header.map((cell) => `<th scope="col">${text(cell)}</th>`).join('');
      return `<table><thead><tr>${head}</tr></thead><tbody>${body.join('\n')}</tbody></table>\n`;
    },
  },
});

const fill = (template, values) => template.replace(/\{\{(\w+)\}\}/g, (_, name) => values[name]);
const titleOf = (text) => text.match(/^# (.*)$/m)[1];
const routeOf = (page) => (page === PAGES[0] ? '/manual' : `/manual/${page}`);

/** A page's HTML, with its links to pages and anchors, and to pictures, led elsewhere. */
function render(text, { page, picture }) {
  return marked
    .parse(text)
    .replace(/ href="([\w-]+)\.md(?:#([\w-]+))?"/g, (_, to, id) => ` href="${page(to, id)}"`)
    .replace(/ src="\.\.\/pictures\/[\w-]+\/([\w.-]+)"/g, (_, name) => ` src="${picture(name)}" loading="lazy"`);
}

const served = {
  page: (to, id) => routeOf(to) + (id ? `#${id}` : ''),
  picture: (name) => `/manual/pictures/${name}`,
};

function pictures(language) {
  const folder = `${MANUAL}pictures/${language}`;
  return readdirSync(folder).map((name) => {
    const body = readFileSync(`${folder}/${name}`);
    if (body.length > PICTURE_BYTES_MAX) throw new Error(`${folder}/${name} has ${body.length} bytes`);
    return { route: `/manual/pictures/${name}`, file: `manual/${language}/${name}`, type: 'image/png', body };
  });
}

/**
 * What there is of one language: assets with their bytes, as `assets.json` lists them, and the page for paper. `frame`
 * and `paper` are templates, the others what each page has inlined.
 */
export function manual(language, { frame, paper, style, script }) {
  const texts = PAGES.map((page) => [page, readFileSync(`${MANUAL}${language}/${page}.md`, 'utf8')]);
  const link = (page, text, now) =>
    `<a href="${routeOf(page)}"${page === now ? ' aria-current="page"' : ''}>${titleOf(text)}</a>`;
  const pages = texts.flatMap(([page, text]) => {
    const nav = texts.map(([other, its]) => link(other, its, page)).join('\n');
    const values = { lang: language, title: titleOf(text), page, nav, style, script, ...WORDS[language] };
    const body = fill(frame, { ...values, body: render(text, served) });
    const routes = page === PAGES[0] ? ['/manual', '/manual/'] : [routeOf(page)];
    const file = `manual/${language}/${page}.html`;
    return routes.map((route) => ({ route, file, type: 'text/html; charset=utf-8', body }));
  });
  const whole = texts.map(([page, text]) => {
    const to = { page: (other, id) => `#${id ?? other}`, picture: (name) => `${language}/${name}` };
    return `<article id="${page}" class="${page}">${render(text, to)}</article>`;
  });
  const assets = [...pages, ...pictures(language)].map((asset) => ({ ...asset, lang: language, cache: 'revalidate' }));
  const print = fill(paper, { lang: language, title: WORDS[language].manual, style, body: whole.join('\n') });
  return { assets, print };
}
