// Each view: its name, the answers that it needs, and how it shows them.
const number = text => h('td', {class: 'number'}, text);

function table(heads, rows, caption) {
  return h('div', {class: 'wide'}, h('table', {},
    caption ? h('caption', {class: 'hidden'}, caption) : null,
    h('thead', {}, h('tr', {}, heads.map(head => h('th', {scope: 'col', class: head.startsWith('#') ? 'number' : null}, head.replace('#', ''))))),
    h('tbody', {}, rows)));
}

function copyButton(text) {
  const button = h('button', {type: 'button', onclick: async () => {
    try { await navigator.clipboard.writeText(text); button.textContent = 'Copied'; } catch { button.textContent = 'Copying is not allowed here'; }
  }}, 'Copy');
  return button;
}

const cure = one => h('div', {},
  h('div', {class: 'cure'}, h('pre', {}, one.command), copyButton(one.command)),
  h('p', {class: 'soft'}, `In ${one.netns}: ${one.reason}`));

const findingsOf = (findings, path) => (findings?.findings ?? []).filter(finding => (finding.paths ?? []).includes(path));

function decisionCard(path, findings) {
  const rule = ruleText(path.decided_by);
  const cures = findingsOf(findings, path.id).flatMap(finding => finding.cures);
  const faults = findingsOf(findings, path.id).filter(finding => finding.kind !== 'packets-dropped');
  return h('section', {class: 'card ' + ({bad: 'problem', good: 'fine'})[tone(path.outcome)]},
    h('h3', {class: tone(path.outcome)}, `${count(path.packets, 'packet')}: ${ending(path)}`),
    rule ? h('pre', {}, rule) : null,
    path.decided_by?.way ? h('p', {}, 'The packet came there by ', path.decided_by.way.map((one, index) => [index ? ', then ' : '', h('code', {}, one)])) : null,
    (path.decided_by?.nearest ?? []).map(one => h('p', {}, nearestText(one))),
    faults.map(finding => h('p', {}, h('strong', {}, finding.title), '. ', finding.reason)),
    cures.length ? [h('h3', {}, 'What would mend it'), cures.map(cure)] : null);
}

const packetLink = path => h('a', {href: Page.address('map', {path: path.id})}, title(path.example));

function pathRows(paths, picked) {
  return paths.map(path => h('tr', {class: path.id === picked ? 'picked' : null},
    number(path.packets.toLocaleString('en')), h('td', {}, packetLink(path)),
    h('td', {}, h('strong', {class: tone(path.outcome)}, path.outcome), ' ', h('span', {}, ending(path))),
    h('td', {}, time(path.last_seen))));
}

function stepsTable(path, journey) {
  const steps = journey?.steps ?? path.steps;
  const routing = (journey?.routing ?? path.routing ?? []).filter(one => one.route ?? one.error);
  const routed = index => routing.filter(one => one.step === index).map(one => h('tr', {}, h('td', {}, one.netns),
    h('td', {class: one.error ? 'bad' : null}, `routing: ${[one.error, one.route].filter(Boolean).join(' by ')}`,
      h('div', {class: 'soft'}, [one.rule && `rule ${one.rule}`, one.passed_over?.length && `before ${one.passed_over.join(', ')}`, 'as the routes are now asked'].filter(Boolean).join('; '))),
    h('td', {}, one.in ?? ''), h('td', {}), h('td', {}, one.source), h('td', {}, one.destination), number(''), number(one.mark), number('')));
  let before = null;
  return table(['Namespace', 'Chain', 'In', 'Out', 'Source', 'Destination', '#TTL', '#Mark', '#Since the step before'],
    [...steps.map((step, index) => {
      const now = step.time ? Date.parse(step.time) * 1000 + Number(step.time.slice(23, 26) || 0) : null;
      const passed = now !== null && before !== null && now !== before ? `${Math.round(now - before)} µs` : '';
      if (now !== null) before = now;
      const rewritten = path.translations.filter(one => one.step === index).map(one => `${natNames[one.kind] ?? one.kind} ${one.from} → ${one.to}`);
      return [routed(index), h('tr', {}, h('td', {}, step.netns),
        h('td', {}, `${step.table}/${chainName(step)}`, rewritten.length ? h('div', {class: 'soft'}, rewritten.join('; ')) : null,
          (step.rules ?? []).map(one => h('div', {class: one.verdict === 'drop' ? 'bad' : 'soft'},
            h('code', {}, one.rule ?? `number ${one.handle}, which could not be read or is gone`), one.rule?.startsWith('-P') ? '' : ` → ${one.verdict}`))),
        h('td', {}, step.in ?? ''), h('td', {}, step.out ?? ''),
        h('td', {}, step.source ? end(step.source, step.source_port ?? undefined) : ''),
        h('td', {}, step.destination ? end(step.destination, step.destination_port ?? undefined) : ''),
        number(step.ttl ?? ''), number(step.mark ?? ''), number(passed))];
    }), routed(steps.length)], 'Steps');
}

/** Other packets that a packet has to do with: in a tunnel, or by an ICMP error. */
function others(journey) {
  const {about, carries, carried_by: carrier} = journey ?? {};
  return [carries ? h('p', {}, `Carries the packet ${carries.protocol} ${carries.source} → ${carries.destination} through a tunnel.`) : null,
    carrier ? h('p', {}, `Carried through a tunnel by ${carrier.protocol} ${carrier.source} → ${carrier.destination}.`) : null,
    about ? h('p', {}, `About the packet ${about.protocol} ${about.source} → ${about.destination}.`) : null,
    (journey?.icmp_errors ?? []).map(one => h('p', {}, `ICMP error about it from ${one.source}: ${one.message}.`))];
}

function nothingYet(what) {
  return h('div', {class: 'empty'}, h('h1', {}, what),
    Source.isLive
      ? [h('p', {}, 'No packet has been seen that this view could show. If there are no probes yet, put them in:'),
        h('pre', {}, 'sudo ipt-trace install-probes'),
        h('p', {}, 'Then send something, for example: '), h('pre', {}, 'ping -c 1 8.8.8.8'),
        h('p', {}, h('a', {href: '#/probes'}, 'The probes'), ' tell which of them have seen packets. A search that fits nothing shows this, too.')]
      : h('p', {}, 'The file that this page was made from holds nothing of it.'));
}

/** What watching takes of the machine, since the collector was started. */
function watchingCost(cost) {
  if (!cost) return null;
  const share = cost.uptime_seconds > 0 ? cost.processor_seconds / cost.uptime_seconds * 100 : 0;
  const parts = [`${share.toFixed(1)} % of one processor`, `${Math.round(cost.memory_bytes / 1048576)} MiB of memory`];
  if (cost.journeys > 0) parts.push(`${(cost.events / cost.journeys).toFixed(1)} events for each packet`);
  if (cost.events > 0) parts.push(`${(cost.processor_seconds / cost.events * 1e6).toFixed(1)} µs of processor time for each event`);
  return h('p', {class: 'soft'}, `Since it was started, the collector has taken ${parts.join(', ')}. What the kernel spends on each probe is not measured.`);
}

const Views = [
  {
    name: 'map', title: 'Map', needs: ['/paths', '/findings', '/namespaces'],
    async show(data, place) {
      const paths = data['/paths']?.paths ?? [];
      if (!paths.length) return nothingYet('Nothing yet');
      const picked = place.get('path');
      const path = paths.find(one => one.id === picked);
      const {root, hiddenLanes, hiddenLines} = await Stack.draw(paths, data['/namespaces']?.namespaces ?? [], picked, id => Page.go('map', {path: id}));
      const journey = path ? await Source.get('/journeys/' + path.example.journey).catch(() => null) : null;
      return [
        h('h1', {}, path ? title(path.example) : 'The ways of packets'),
        path ? h('p', {}, h('a', {href: Page.address('map', {})}, 'All paths')) : null,
        path ? decisionCard(path, data['/findings']) : null,
        h('div', {class: 'map', tabindex: '0', role: 'region', 'aria-label': 'Map, can be scrolled'}, root),
        h('p', {class: 'legend'}, h('span', {}, 'Width: packets'), h('span', {class: 'bad'}, '✕ dropped here'),
          h('span', {class: 'unsure'}, 'orange: end not known'), h('span', {}, '≡ bridge'), h('span', {}, '⇌ tunnel'), h('span', {}, 'A table lists the same paths below.'),
          hiddenLanes > 0 ? h('span', {}, `${count(hiddenLanes, 'namespace')} more: choose one with netns=NAME`) : null,
          hiddenLines > 0 ? h('span', {}, `${count(hiddenLines, 'thinner line')} left out: search for what you look for`) : null),
        path ? [h('h2', {}, journey ? 'The latest such packet, step by step' : 'Its steps'), stepsTable(path, journey), others(journey)] : null,
        h('h2', {}, 'Paths'),
        table(['#Packets', 'Example', 'What became of them', 'Last seen'], pathRows(paths.slice(0, Page.most), picked), 'Paths'),
        Page.more(paths.length),
      ];
    },
  },
  {
    name: 'drops', title: 'Drops', needs: ['/drops', '/findings'],
    count: data => data['/findings']?.dropped,
    async show(data) {
      const drops = data['/drops']?.drops ?? [];
      if (!drops.length) return nothingYet('No packet was dropped');
      return [h('h1', {}, 'Drops, by what decided them'), drops.slice(0, Page.most).map(drop => {
        const cures = drop.paths.flatMap(path => findingsOf(data['/findings'], path)).flatMap(finding => finding.cures);
        const own = [...new Map(cures.map(one => [one.command, one])).values()];
        return h('section', {class: 'card problem'},
          h('h2', {class: 'bad'}, `${count(drop.packets, 'packet')} ${decision(drop.decided_by, drop.dropped_between)}`),
          ruleText(drop.decided_by) ? h('pre', {}, ruleText(drop.decided_by)) : null,
          h('p', {}, 'Such as ', h('a', {href: Page.address('map', {path: drop.paths[0]})}, title(drop.example)),
            `, behind ${place(drop.dropped_between.after)}; ${time(drop.first_seen)} to ${time(drop.last_seen)}`),
          (drop.decided_by?.nearest ?? []).slice(0, 1).map(one => h('p', {}, nearestText(one))),
          own.length ? [h('h3', {}, 'What would mend it'), own.map(cure)] : null);
      }), Page.more(drops.length)];
    },
  },
  {
    name: 'findings', title: 'Findings', needs: ['/findings'],
    async show(data) {
      const findings = data['/findings']?.findings ?? [];
      if (!findings.length) return nothingYet('Nothing was found to be wrong');
      return [h('h1', {}, 'Findings'), findings.map(finding =>
        h('section', {class: 'card ' + finding.severity}, h('h2', {}, finding.title),
          h('p', {class: 'soft'}, `${finding.severity}, ${finding.kind}, in ${finding.netns}${finding.packets ? ', ' + count(finding.packets, 'packet') : ''}`),
          h('p', {}, finding.reason),
          ruleText(finding.decided_by) ? h('pre', {}, ruleText(finding.decided_by)) : null,
          finding.paths?.length ? h('p', {}, h('a', {href: Page.address('map', {path: finding.paths[0]})}, 'On the map')) : null,
          finding.cures.length ? [h('h3', {}, 'What would mend it'), finding.cures.map(cure)] : null))];
    },
  },
  {
    name: 'flows', title: 'Flows', needs: ['/flows'],
    async show(data) {
      const flows = data['/flows']?.flows ?? [];
      if (!flows.length) return nothingYet('No connection was seen');
      const side = one => one ? `${count(one.packets, 'packet')}: ${Object.entries(one.outcomes).map(([name, n]) => `${n} ${name}`).join(', ')}${
        one.sent_again ? `; ${one.sent_again} sent again` : ''}${one.closed_windows ? `; window 0 ${one.closed_windows} times` : ''}` : 'nothing seen';
      const worst = one => !one ? '' : one.outcomes.dropped ? 'bad' : one.outcomes.incomplete ? 'unsure' : 'good';
      return [h('h1', {}, 'Flows, both directions'), table(['Connection', 'Original', 'Reply', 'ICMP errors about it', 'Rewritten', 'Last seen'], flows.slice(0, Page.most).map(flow => h('tr', {},
        h('td', {}, flow.original.paths.length ? h('a', {href: Page.address('map', {path: flow.original.paths[0]})}, `${flow.protocol} ${ends(flow.original)}`) : `${flow.protocol} ${ends(flow.original)}`),
        h('td', {class: worst(flow.original)}, side(flow.original)), h('td', {class: worst(flow.reply)}, side(flow.reply)),
        h('td', {}, (flow.icmp_errors ?? []).map(one => `${one.packets} × ${one.message} from ${one.source}`).join('; ')),
        h('td', {}, flow.translations.map(one => `${natNames[one.kind] ?? one.kind} ${end(one.from, one.from_port)} → ${end(one.to, one.to_port)} in ${one.netns}`).join('; ')),
        h('td', {}, time(flow.last_seen)))), 'Flows'), Page.more(flows.length)];
    },
  },
  {
    name: 'precedence', title: 'Precedence', needs: ['/precedence'],
    async show(data) {
      const roles = data['/precedence']?.roles ?? [];
      if (!roles.length) return nothingYet('No order of chains was seen');
      return [h('h1', {}, 'In which order chains ran'),
        (data['/precedence'].conflicts ?? []).length ? h('p', {class: 'bad'}, `${count(data['/precedence'].conflicts.length, 'pair')} of packets disagree`) : null,
        roles.map(role => h('section', {}, h('h2', {}, `${role.netns}, as a ${role.role}`), role.orders.map(order => [
          h('h3', {}, `${order.direction}, ${count(order.packets, 'packet')}`),
          h('ol', {class: 'order'}, order.chains.map(chain => h('li', {}, chain)))]))),
        (data['/precedence'].notes ?? []).map(note => h('p', {class: 'soft'}, note))];
    },
  },
  {
    name: 'latency', title: 'Latency', needs: ['/latency'],
    async show(data) {
      const answer = data['/latency'];
      const hops = answer?.hops ?? [], transits = answer?.transits ?? [];
      if (!hops.length && !transits.length) return nothingYet('No time was measured');
      const figures = one => [number(one.measured), number(one.p50_us ?? 'not known'), number(one.p90_us ?? ''), number(one.p99_us ?? ''), number(one.unknown)];
      const heads = ['#Measured', '#p50 µs', '#p90 µs', '#p99 µs', '#Not known'];
      return [h('h1', {}, 'Latency'),
        transits.length ? [h('h2', {}, 'Through a namespace'), table(['From', 'To', ...heads], transits.map(one =>
          h('tr', {}, h('td', {}, one.netns ?? one.from ?? ''), h('td', {}, one.next ?? one.to ?? ''), figures(one.figures))), 'Through a namespace')] : null,
        h('h2', {}, 'Between chains'), table(['Namespace', 'From', 'To', ...heads], hops.map(one =>
          h('tr', {}, h('td', {}, one.netns), h('td', {}, one.from), h('td', {}, one.to), figures(one.figures))), 'Between chains'),
        h('p', {class: 'soft'}, 'Where the kernel gives both steps one stamp, or none, the time is not known.')];
    },
  },
  {
    name: 'probes', title: 'Probes', needs: ['/probes'],
    async show(data) {
      const probes = data['/probes']?.probes ?? [];
      if (!probes.length) return nothingYet('There are no probes');
      return [h('h1', {}, 'Probes'), h('p', {}, `${count(probes.length, 'probe')}, ${probes.filter(one => one.state !== 'in place').length} not in place.`),
        watchingCost(data['/probes']?.cost),
        table(['Namespace', 'Backend', 'Family', 'Table', 'Chain', '#Packets', 'State'], probes.map(one => h('tr', {},
          ['netns', 'backend', 'family', 'table', 'chain'].map(key => h('td', {}, one[key] ?? '')), number((one.packets ?? 0).toLocaleString('en')),
          h('td', {class: one.state === 'in place' || one.state === 'recorded' ? '' : 'bad'}, one.state))), 'Probes')];
    },
  },
  {
    name: 'namespaces', title: 'Namespaces', needs: ['/namespaces'],
    async show(data) {
      const all = data['/namespaces']?.namespaces ?? [];
      if (!all.length) return nothingYet('No namespace is followed');
      const domains = new Map();
      for (const one of all) for (const link of one.interfaces) {
        if (link.name === 'lo') continue;
        domains.set(link.link_domain, [...(domains.get(link.link_domain) ?? []), `${link.name} in ${one.name}`]);
      }
      return [h('h1', {}, 'Namespaces'), table(['Namespace', '#Probes', 'Tracks connections', 'Interfaces', 'Reaches'], all.map(one => h('tr', {},
        h('td', {}, h('a', {href: Page.address('map', {q: 'netns=' + one.name})}, one.name)), number(one.probes),
        h('td', {}, one.tracks_connections ? 'yes' : 'no'), h('td', {}, one.interfaces.map(link => link.name + (link.kind ? ` (${link.kind})` : link.bridge ? ` (port of ${link.bridge})` : '')).join(', ')),
        h('td', {}, one.interfaces.filter(link => link.name !== 'lo').flatMap(link => [
          ...(domains.get(link.link_domain) ?? []).filter(other => other !== `${link.name} in ${one.name}` && !other.endsWith(' in ' + one.name)),
          ...(link.reaches_outside ? [`outside, by ${link.name}`] : [])]).join(', ')))), 'Namespaces')];
    },
  },
];
