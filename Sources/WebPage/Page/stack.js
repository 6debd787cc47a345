// The map of the network stack: a lane for each namespace, in it the chains in the order in which packets met them.
const Stack = (() => {
  const svgSpace = 'http://www.w3.org/2000/svg';
  const size = {station: 58, height: 22, gap: 8, route: 50, port: 62, margin: 124, upper: 46, lower: 104, low: 84, high: 140, between: 30};
  const middle = size.height / 2;
  const hooks = ['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING'];
  // Past these the map would be too much to draw, and to see.
  const mostLanes = 12;
  const mostLines = 400;

  function s(name, attributes = {}, ...children) {
    const element = document.createElementNS(svgSpace, name);
    for (const [key, value] of Object.entries(attributes)) if (value !== null && value !== undefined) element.setAttribute(key, value);
    element.append(...children);
    return element;
  }

  const stationKey = step => [step.netns, step.hook, step.table, step.chain, step.back_from ?? ''].join('|');

  // Lanes with their stations, interfaces and the ways between them, as the paths show them.
  function survey(paths) {
    const lanes = new Map();
    const lane = netns => {
      if (!lanes.has(netns))
        lanes.set(netns, {netns, stations: new Map(), ins: new Map(), outs: new Map(), sockets: false, packets: 0});
      return lanes.get(netns);
    };
    for (const path of paths) {
      const seen = new Set();
      path.steps.forEach((step, index) => {
        const own = lane(step.netns);
        if (!seen.has(step.netns)) { own.packets += path.packets; seen.add(step.netns); }
        const key = stationKey(step);
        if (!own.stations.has(key)) own.stations.set(key, {key, step, order: own.stations.size});
        if (step.hook === 'INPUT' || step.hook === 'OUTPUT') own.sockets = true;
        const before = path.steps[index - 1];
        const begins = !before || before.netns !== step.netns || before.hook === 'POSTROUTING' && step.hook !== 'POSTROUTING';
        if (begins && step.hook === 'PREROUTING') own.ins.set(step.in ?? '?', true);
        const after = path.steps[index + 1];
        const leaves = step.hook === 'POSTROUTING' && (!after || after.hook !== 'POSTROUTING' || after.netns !== step.netns);
        if (leaves) own.outs.set(step.out ?? '?', true);
      });
    }
    return lanes;
  }

  // Where each thing stands.
  function arrange(lanes) {
    const shown = [...lanes.values()].slice(0, mostLanes);
    const widths = Object.fromEntries(hooks.map(hook => [hook, 0]));
    for (const lane of shown) {
      lane.byHook = Object.fromEntries(hooks.map(hook => [hook, []]));
      for (const station of lane.stations.values()) lane.byHook[station.step.hook]?.push(station);
      for (const hook of hooks) {
        lane.byHook[hook].sort((a, b) => a.step.priority - b.step.priority || a.order - b.order);
        widths[hook] = Math.max(widths[hook], lane.byHook[hook].length * (size.station + size.gap));
      }
    }
    const x = {PREROUTING: size.margin};
    x.route = x.PREROUTING + widths.PREROUTING + 10;
    x.FORWARD = x.INPUT = x.route + size.route + 14;
    const sockets = 64;
    x.sockets = x.INPUT + widths.INPUT + 6;
    x.OUTPUT = x.sockets + sockets + 14;
    x.POSTROUTING = Math.max(x.FORWARD + widths.FORWARD, x.OUTPUT + widths.OUTPUT) + 18;
    const right = x.POSTROUTING + widths.POSTROUTING;
    const width = Math.max(980, right + size.margin);
    const places = new Map();
    let y = size.between;
    for (const lane of shown) {
      lane.y = y;
      const ports = Math.max(lane.ins.size, lane.outs.size);
      lane.height = Math.max(lane.sockets ? size.high : size.low, 40 + ports * 24);
      for (const hook of hooks) {
        const row = hook === 'INPUT' || hook === 'OUTPUT' ? size.lower : size.upper;
        lane.byHook[hook].forEach((station, index) => {
          places.set(station.key, {x: x[hook] + index * (size.station + size.gap), y: y + row, station});
        });
      }
      const put = (names, at) => [...names.keys()].sort().forEach((name, index) => names.set(name, {x: at, y: y + size.upper + middle + index * 24}));
      put(lane.ins, 34);
      put(lane.outs, width - 34 - size.port);
      y += lane.height + size.between;
    }
    return {shown, places, x, width, height: y, sockets, right};
  }

  // The points through which a path goes, one list for each pair of neighbours: [key, outline].
  function segments(path, lanes, map) {
    const found = [];
    const line = (a, b) => {
      const bend = Math.max(14, Math.abs(b.x - a.x) / 3);
      return a.y === b.y && b.x >= a.x ? `M${a.x} ${a.y}L${b.x} ${b.y}` : `M${a.x} ${a.y}C${a.x + bend} ${a.y} ${b.x - bend} ${b.y} ${b.x} ${b.y}`;
    };
    const enter = at => ({x: at.x, y: at.y + middle});
    const leave = at => ({x: at.x + size.station, y: at.y + middle});
    let last = null;
    path.steps.forEach((step, index) => {
      const at = map.places.get(stationKey(step));
      const lane = lanes.get(step.netns);
      if (!at) { last = null; return; }
      const before = path.steps[index - 1];
      const crosses = before && (before.netns !== step.netns || before.hook === 'POSTROUTING' && step.hook !== 'POSTROUTING');
      const socket = {x: map.x.sockets + map.sockets, y: lane.y + size.lower + middle};
      const port = lane.ins.get(step.in ?? '?');
      if (!before || crosses || !last) {
        if (crosses && last) {
          const left = lanes.get(before.netns);
          const out = left.outs.get(before.out ?? '?');
          if (before.hook === 'POSTROUTING' && out) {
            found.push([`${stationKey(before)}>${before.out}`, line(leave(last), out)]);
            if (step.hook === 'PREROUTING' && port) found.push([`${before.netns}|${before.out}>${step.netns}|${step.in}`, pipe(out, port, left, lane, map)]);
          }
        }
        if (step.hook === 'PREROUTING' && port) found.push([`${step.netns}|${step.in}>${at.station.key}`, line({x: port.x + size.port, y: port.y}, enter(at))]);
        else if (step.hook === 'OUTPUT') found.push([`${step.netns}|sockets>${at.station.key}`, line(socket, enter(at))]);
      } else {
        const key = `${last.station.key}>${at.station.key}`;
        if (before.hook === 'PREROUTING' && step.hook !== 'PREROUTING') {
          const route = {x: map.x.route + size.route / 2, y: lane.y + size.upper + middle};
          found.push([key, line(leave(last), route) + line(route, enter(at)).replace(/^M/, 'M')]);
        } else found.push([key, line(leave(last), enter(at))]);
      }
      last = at;
    });
    const step = path.steps.at(-1);
    const lane = step && lanes.get(step.netns);
    if (last && path.outcome === 'delivered' && step.hook === 'INPUT')
      found.push([`${last.station.key}>sockets`, line(leave(last), {x: map.x.sockets, y: lane.y + size.lower + middle})]);
    if (last && path.outcome === 'sent' && step.hook === 'POSTROUTING') {
      const out = lane.outs.get(step.out ?? '?');
      if (out) found.push([`${last.station.key}>${step.out}`, line(leave(last), out)]);
    }
    return found;
  }

  // From one lane's right side to another one's left side, in the gap beside the first.
  function pipe(out, port, from, to, map) {
    const down = to.y >= from.y;
    const y = down ? from.y + from.height + size.between / 2 : from.y - size.between / 2;
    const right = map.width - 10;
    return `M${out.x + size.port} ${out.y}H${right}V${y}H10V${port.y}H${port.x}`;
  }

  // What stands before an interface's name, and what that means.
  const linkSigns = {bridge: '≡', tunnel: '⇌'};

  // What kind of interface each is, as far as that is known.
  function kinds(namespaces) {
    const found = new Map();
    for (const one of namespaces) for (const link of one.interfaces) {
      const ports = one.interfaces.filter(other => other.bridge === link.name).map(other => other.name);
      found.set(`${one.name}|${link.name}`, {
        sign: linkSigns[link.kind] ?? '',
        what: link.kind === 'bridge' ? `bridge ${link.name}${ports.length ? ' of ' + ports.join(', ') : ''}`
          : link.kind === 'tunnel' ? `tunnel ${link.name}` : link.bridge ? `${link.name}, a port of the bridge ${link.bridge}` : link.name,
      });
    }
    return found;
  }

  async function draw(paths, namespaces, picked, choose) {
    const lanes = survey(paths);
    const links = kinds(namespaces);
    const map = arrange(lanes);
    const root = s('svg', {viewBox: `0 0 ${map.width} ${map.height}`, role: 'group', 'aria-label': 'Map of the network stack'});
    const back = s('g', {'aria-hidden': 'true'});
    for (const lane of map.shown) {
      back.append(s('rect', {class: 'lane', x: 24, y: lane.y, width: map.width - 48, height: lane.height, rx: 8}));
      back.append(label(34, lane.y + 18, lane.netns, 'lane-name'));
      for (const hook of hooks) {
        const first = lane.byHook[hook][0];
        if (first) back.append(label(map.places.get(first.key).x, map.places.get(first.key).y - 5, hook, 'hook'));
      }
    }

    // One line for each pair of neighbours and kind of outcome, however many paths share it.
    await Page.breathe();
    const edges = new Map();
    const stops = new Map();
    const marks = new Map();
    for (const path of paths) {
      const kind = tone(path.outcome);
      for (const [key, outline] of segments(path, lanes, map)) {
        const name = kind + ' ' + key;
        const edge = edges.get(name) ?? {kind, outline, packets: 0, path};
        edge.packets += path.packets;
        if (path.packets > edge.path.packets) edge.path = path;
        edges.set(name, edge);
      }
      const between = path.outcome === 'dropped' ? path.dropped_between : null;
      const at = between && map.places.get(stationKey(between.after));
      if (at) {
        const key = `${at.station.key}|${ruleText(path.decided_by) ?? path.decided_by?.kind}`;
        const stop = stops.get(key) ?? {at, packets: 0, path, paths: new Set()};
        stop.packets += path.packets;
        stop.paths.add(path.id);
        stops.set(key, stop);
      }
      for (const translation of path.translations) {
        const step = path.steps[Math.min(translation.step, path.steps.length - 1)];
        const place = step && map.places.get(stationKey(step));
        if (place) marks.set(`${place.station.key}|${translation.kind}`, {place, kind: translation.kind});
      }
    }
    await Page.breathe();
    const most = Math.max(1, ...[...edges.values()].map(edge => edge.packets));
    const lines = s('g', {'aria-hidden': 'true'});
    const widest = [...edges.values()].sort((a, b) => b.packets - a.packets).slice(0, mostLines);
    for (const edge of widest) {
      const width = 1.4 + 4.6 * Math.log1p(edge.packets) / Math.log1p(most);
      const shift = {good: 0, bad: 2.5, unsure: -2.5}[edge.kind];
      const element = s('path', {
        class: 'edge ' + edge.kind, d: edge.outline, 'stroke-width': width.toFixed(1), transform: `translate(0 ${shift})`,
      }, s('title', {}, `${count(edge.packets, 'packet')}, such as ${title(edge.path.example)}`));
      element.addEventListener('click', () => choose(edge.path.id));
      lines.append(element);
    }
    const stations = s('g', {'aria-hidden': 'true'});
    for (const lane of map.shown) {
      if (lane.byHook.PREROUTING.length) box(stations, 'place', map.x.route, lane.y + size.upper, size.route, 'routing');
      if (lane.sockets) box(stations, 'place', map.x.sockets, lane.y + size.lower, map.sockets, 'sockets');
      for (const ports of [lane.ins, lane.outs])
        for (const [name, at] of ports) {
          const link = links.get(`${lane.netns}|${name}`);
          const drawn = box(stations, 'port', at.x, at.y - middle, size.port, (link?.sign ? link.sign + ' ' : '') + name);
          drawn.append(s('title', {}, link?.what ?? name));
        }
    }
    for (const {x, y, station} of map.places.values()) {
      const step = station.step;
      const text = (step.back_from ? '↩ ' : '') + (step.chain === step.hook ? step.table : step.chain);
      const what = `${step.table}/${chainName(step)}, priority ${step.priority}, ${step.backend}`;
      const group = box(stations, 'station', x, y, size.station, text);
      group.append(s('title', {}, what + (step.back_from ? `, back from ${step.back_from}` : '')));
    }
    for (const {place: at, kind} of marks.values())
      stations.append(label(at.x + size.station / 2, at.y + size.height + 9, natNames[kind] ?? kind, 'nat'));

    const front = s('g', {});
    const path = paths.find(one => one.id === picked);
    if (path) {
      lines.classList.add('picking');
      for (const [, outline] of segments(path, lanes, map))
        lines.append(s('path', {class: 'picked-line', d: outline}));
    }
    // Several rules may end packets behind one chain: their marks stand below one another.
    const depth = new Map();
    for (const stop of stops.values()) {
      const level = depth.get(stop.at.station.key) ?? 0;
      depth.set(stop.at.station.key, level + 1);
      const words = `${count(stop.packets, 'packet')} ${decision(stop.path.decided_by, stop.path.dropped_between)}${ruleText(stop.path.decided_by) ? ': ' + ruleText(stop.path.decided_by) : ''}`;
      const link = s('a', {href: '#/map?path=' + stop.path.id, 'aria-label': words, class: 'stop' + (stop.paths.has(picked) ? ' picked' : '')},
        s('title', {}, words));
      const cx = stop.at.x + size.station + 3;
      const cy = stop.at.y + middle + level * 16;
      link.append(s('circle', {cx, cy, r: 8.5}), s('text', {x: cx, y: cy + 3.5}, '✕'));
      front.append(link);
    }
    root.append(back, lines, stations, front);
    return {root, hiddenLanes: lanes.size - map.shown.length, hiddenLines: edges.size - widest.length};
  }

  function label(x, y, text, kind = null, anchor = null) {
    const short = text.length > 16 ? text.slice(0, 15) + '…' : text;
    return s('text', {x, y, class: kind, 'text-anchor': anchor}, short);
  }

  function box(parent, kind, x, y, width, text) {
    const group = s('g', {}, s('rect', {class: kind, x, y, width, height: size.height, rx: 4}));
    const short = text.length > 9 ? text.slice(0, 8) + '…' : text;
    group.append(s('text', {x: x + width / 2, y: y + middle + 4, 'text-anchor': 'middle'}, short));
    parent.append(group);
    return group;
  }

  return {draw};
})();
