// What is shown is what the address says: #/VIEW?q=…&window=…&path=…
const Page = (() => {
  const main = document.getElementById('main');
  const state = document.getElementById('state');
  const problem = document.getElementById('problem');
  const banner = document.getElementById('banner');
  const pause = document.getElementById('pause');
  const query = document.getElementById('query');
  const window_ = document.getElementById('window');
  let paused = false, shown = '', drawn = '', turn = 0, timer = null, stream = null, latest = {};
  const page = {most: 100};

  page.place = () => {
    const [path, rest] = location.hash.replace(/^#\/?/, '').split('?');
    return {view: Views.find(view => view.name === path) ?? Views[0], get: key => new URLSearchParams(rest ?? '').get(key) ?? ''};
  };

  // An address in this page; the search and the time window are kept.
  page.address = (view, parameters) => {
    const now = page.place();
    const all = {q: now.get('q'), window: now.get('window'), ...parameters};
    const text = new URLSearchParams(Object.entries(all).filter(([, value]) => value)).toString();
    return `#/${view}${text ? '?' + text : ''}`;
  };
  page.go = (view, parameters) => { location.hash = page.address(view, parameters); };

  page.more = total => total > page.most
    ? h('p', {}, `${page.most} of ${total} are listed. `, h('button', {type: 'button', onclick: () => { page.most += 400; refresh(true); }}, 'Show more'))
    : null;

  function navigation(data) {
    const now = page.place();
    const shown = Views.filter(view => Source.isLive || view.needs.every(path => Source.recorded[path.slice(1)]));
    document.getElementById('views').replaceChildren(...shown.map(view => {
      const n = view.count?.(data);
      return h('a', {href: page.address(view.name, {}), 'aria-current': view === now.view ? 'page' : null},
        view.title, n ? h('span', {class: 'count'}, ` ${n.toLocaleString('en')}`) : null);
    }));
  }

  async function answers(view, place) {
    const wanted = Query.parse(place.get('q'));
    if (place.get('window')) wanted.push(['since', place.get('window')]);
    const data = {};
    const ignored = new Set();
    for (const path of view.needs) {
      const taken = await Source.parameters(path);
      const parameters = wanted.filter(([key]) => taken.has(key));
      if (path === view.needs[0]) wanted.filter(([key]) => !taken.has(key)).forEach(([key]) => ignored.add(key));
      if (taken.has('limit') && path === '/paths') parameters.push(['limit', '500']);
      data[path] = await Source.get(path, parameters);
    }
    return {data, ignored: Source.isLive ? [...ignored] : []};
  }

  // Lets the browser draw a frame between two parts of work.
  page.breathe = () => new Promise(resolve => setTimeout(resolve));

  // Lets the browser show what has been made so far; a page that nobody sees has no frames.
  page.frame = () => document.hidden ? page.breathe()
    : new Promise(resolve => requestAnimationFrame(() => setTimeout(resolve)));

  async function refresh(forced = false) {
    const mine = ++turn;
    const place = page.place();
    if (query !== document.activeElement) query.value = place.get('q');
    window_.value = place.get('window');
    try {
      const {data, ignored} = await answers(place.view, place);
      if (mine !== turn) return;
      tell(ignored.length ? `This view does not choose by ${ignored.join(', ')}.` : '');
      const content = [location.hash, page.most, ...Object.values(data).map(Source.tag)].join('|');
      if (content !== drawn || forced) {
        await page.breathe();
        const view = await place.view.show(data, place);
        if (mine !== turn) return;
        const top = main.querySelector('.map')?.scrollTop ?? 0, left = main.querySelector('.map')?.scrollLeft ?? 0;
        const parts = [view].flat(Infinity).filter(Boolean);
        const first = parts.findIndex(part => part.classList?.contains('map')) + 1;
        // A map and what stands below it are laid out in two frames, between which the page keeps its height.
        main.style.minHeight = first ? main.offsetHeight + 'px' : '';
        main.replaceChildren(...parts.slice(0, first || parts.length));
        main.querySelector('.map')?.scrollTo(left, top);
        if (first) {
          await page.frame();
          if (mine !== turn) return;
          main.append(...parts.slice(first));
          main.style.minHeight = '';
        }
        drawn = content;
      }
      latest = {...latest, ...data};
      navigation(latest);
      const all = Object.values(data).find(one => one?.completeness)?.completeness;
      const doubts = all ? completenessText(all) : '';
      banner.hidden = !doubts;
      banner.textContent = doubts ? `Not everything was seen: ${doubts}.` : '';
      if (!Source.hasEvents && Source.isLive) say(paused ? 'paused' : 'asks every 5 s');
      else if (Source.isLive && !stream) connect();
      else if (!Source.isLive) say(`recorded, as of ${Object.values(data)[0]?.generated_at?.slice(0, 19).replace('T', ' ') ?? 'then'} UTC`);
    } catch (error) {
      if (mine !== turn) return;
      if (error instanceof Source.Unauthorized) return askForToken();
      if (error instanceof Source.Refused) return tell(error.message);
      lost();
    }
  }

  function say(text, isOff = false) { state.textContent = text; state.classList.toggle('off', isOff); }
  function tell(text) { problem.hidden = !text; problem.textContent = text; }

  // Not more often than once a second, however much happens.
  function soon(milliseconds = 1000) {
    if (timer || paused || document.hidden) return;
    timer = setTimeout(() => { timer = null; refresh(); }, milliseconds);
  }

  let wait = 1000;
  function lost() {
    stream?.abort();
    stream = null;
    say('reconnecting…', true);
    if (!main.childElementCount)
      main.replaceChildren(h('div', {class: 'empty'}, h('h1', {}, 'The collector does not answer'), h('p', {}, 'It is asked again by itself. Is ', h('code', {}, 'ipt-trace collect'), ' running?')));
    setTimeout(() => refresh(), wait);
    wait = Math.min(wait * 2, 15000);
  }

  async function connect() {
    stream = new AbortController();
    const own = stream;
    say(paused ? 'paused' : 'live');
    try {
      await Source.follow(own.signal, () => { wait = 1000; }, () => soon());
      if (own === stream) lost();
    } catch (error) {
      if (own !== stream || own.signal.aborted) return;
      lost();
    }
  }

  function askForToken() {
    const dialog = document.getElementById('token');
    if (dialog.open) return;
    dialog.showModal();
    dialog.addEventListener('close', () => {
      Source.setToken(document.getElementById('secret').value.trim());
      document.getElementById('secret').value = '';
      refresh(true);
    }, {once: true});
  }

  document.getElementById('search').addEventListener('submit', event => {
    event.preventDefault();
    page.go(page.place().view.name, {q: query.value.trim(), window: window_.value});
  });
  window_.addEventListener('change', () => page.go(page.place().view.name, {q: query.value.trim(), window: window_.value}));
  pause.addEventListener('click', () => {
    paused = !paused;
    pause.setAttribute('aria-pressed', String(paused));
    pause.textContent = paused ? 'Go on' : 'Pause';
    say(paused ? 'paused' : 'live');
    if (!paused) refresh();
  });
  window.addEventListener('hashchange', () => {
    const now = page.place().view.name;
    if (now !== shown) { page.most = 100; window.scrollTo(0, 0); main.focus(); }
    shown = now;
    refresh(true);
  });
  document.addEventListener('visibilitychange', () => soon(0));
  document.addEventListener('keydown', event => {
    if (event.target.closest('input, select, dialog') || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === '/') { event.preventDefault(); query.focus(); }
    if (event.key === 'p') pause.click();
    if (event.key === 'Escape' && page.place().get('path')) page.go('map', {});
  });
  if (!Source.isLive) for (const element of [pause, document.getElementById('search')]) element.hidden = true;
  setTimeout(() => { navigation({}); refresh(true); setInterval(() => soon(), 5000); });
  return page;
})();
