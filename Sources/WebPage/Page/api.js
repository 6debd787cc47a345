// Where answers come from: the collector that served this page, or what a report has put into it.
const Source = (() => {
  const recorded = JSON.parse(document.getElementById('recorded').textContent || 'null');
  const known = new Map();
  const tags = new WeakMap();
  let token = sessionStorage_get();

  function sessionStorage_get() {
    try { return sessionStorage.getItem('token'); } catch { return null; }
  }

  class Unauthorized extends Error {}
  class Refused extends Error {}

  function headers() { return token ? {Authorization: 'Bearer ' + token} : {}; }

  async function get(path, parameters = []) {
    if (recorded) {
      const name = path.slice(1);
      if (name.startsWith('journeys/')) return recorded.journeys[name.slice(9)] ?? null;
      return recorded[name] ?? null;
    }
    const query = new URLSearchParams(parameters).toString();
    const response = await fetch(path + (query ? '?' + query : ''), {headers: headers()});
    if (response.status === 401) throw new Unauthorized();
    if (response.status === 404) return null;
    const answer = await response.json();
    // What names the content, so that the same is not drawn again.
    if (response.headers.get('ETag')) tags.set(answer, response.headers.get('ETag'));
    if (!response.ok) throw new Refused(answer.error?.message ?? 'status ' + response.status);
    return answer;
  }

  // The parameters that each resource takes, as the collector itself describes them.
  async function parameters(path) {
    if (recorded) return new Set();
    if (!known.size) {
      const description = await get('/openapi.json');
      for (const [name, item] of Object.entries(description?.paths ?? {}))
        known.set(name, new Set((item.get.parameters ?? []).map(parameter => parameter.name)));
    }
    return known.get(path) ?? new Set();
  }

  // Calls back for each event until it fails or is ended; EventSource could send no token.
  async function follow(signal, onOpen, onEvent) {
    const response = await fetch('/events', {headers: headers(), signal});
    if (response.status === 401) throw new Unauthorized();
    if (!response.ok) throw new Refused('status ' + response.status);
    onOpen();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    for (;;) {
      const {value, done} = await reader.read();
      if (done) return;
      text += value;
      const blocks = text.split('\n\n');
      text = blocks.pop();
      for (const block of blocks) if (!block.startsWith(':')) onEvent(block);
    }
  }

  return {
    Unauthorized, Refused, get, parameters, follow,
    isLive: !recorded,
    // Files that are served tell of nothing as it happens.
    hasEvents: recorded === null,
    recorded,
    tag: answer => answer && (tags.get(answer) ?? JSON.stringify(answer)),
    setToken(text) {
      token = text || null;
      known.clear();
      try { sessionStorage.setItem('token', text); } catch { /* It is kept until the page is left. */ }
    },
  };
})();

// One search box for the filters of all lists: key=value, or a word that says itself what it is.
const Query = {
  protocols: ['tcp', 'udp', 'icmp', 'icmpv6', 'sctp', 'gre', 'esp', 'igmp'],
  outcomes: ['delivered', 'sent', 'dropped', 'incomplete', 'open'],
  keys: ['address', 'port', 'proto', 'netns', 'outcome', 'since', 'until'],

  parse(text) {
    const found = [];
    for (const word of text.trim().split(/\s+/).filter(Boolean)) {
      const [, key, value] = word.match(/^([a-z]+)=(.+)$/) ?? [];
      const lower = word.toLowerCase();
      if (this.keys.includes(key)) found.push([key, value]);
      else if (/^:\d+$/.test(word)) found.push(['port', word.slice(1)]);
      else if (/^\d+$/.test(word)) found.push(['port', word]);
      else if (/^[\d.]+(\/\d+)?$/.test(word) || /^[0-9a-f:]*:[0-9a-f:.]*(\/\d+)?$/i.test(word)) found.push(['address', word]);
      else if (/^[\d.]+:\d+$/.test(word)) found.push(['address', word.split(':')[0]], ['port', word.split(':')[1]]);
      else if (this.protocols.includes(lower)) found.push(['proto', lower]);
      else if (this.outcomes.includes(lower)) found.push(['outcome', lower]);
      else found.push(['netns', word]);
    }
    return found;
  },
};
