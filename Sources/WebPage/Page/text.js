// Elements, and sentences as the terminal has them. Text from packets and rules becomes text, never markup.
function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? '' : value);
  }
  element.append(...children.flat(Infinity).filter(child => child !== null && child !== undefined && child !== false));
  return element;
}

const count = (number, noun) => `${number.toLocaleString('en')} ${noun}${number === 1 ? '' : 's'}`;
const chainName = step => step.chain === step.hook ? step.chain : `${step.chain} (${step.hook})`;
const place = step => `${step.table}/${chainName(step)} in ${step.netns}`;
const time = text => text ? text.slice(11, 19) + ' UTC' : '';
const end = (address, port) => port === undefined ? address : address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
const ends = packet =>
  `${end(packet.source, packet.source_port)} → ${end(packet.destination, packet.destination_port)}`;
const title = packet => `${packet.protocol} ${ends(packet)}${packet.message || packet.tcp_flags ? ' ' + (packet.message ?? packet.tcp_flags) : ''}${packet.sent_again ? ' (sent again)' : ''}${packet.closes_window ? ' (window 0)' : ''}`;
const tone = outcome => ({dropped: 'bad', incomplete: 'unsure', open: 'unsure'})[outcome] ?? 'good';
const natNames = {snat: 'SNAT', dnat: 'DNAT', snat_reply: 'SNAT undone', dnat_reply: 'DNAT undone'};

// What dropped a packet, as one sentence; how sure that is stands in it.
function decision(decided, between) {
  if (!decided) return '';
  const by = decided.owner ? ` (written by ${decided.owner.program}${decided.owner.object ? ': ' + decided.owner.object : ''})` : '';
  switch (decided.kind) {
    case 'rule':
    case 'policy': {
      const number = decided.position ? `rule ${decided.position}` : 'a rule';
      const what = decided.kind === 'policy' ? 'the policy' : number;
      const how = decided.evidence === 'trace' ? '' : ', as is inferred';
      const invalid = decided.invalid ? ` (INVALID: ${decided.invalid})` : '';
      return `${decided.verdict === 'REJECT' ? 'rejected' : 'dropped'} by ${what} of ${decided.table}/${decided.chain} in ${decided.netns}${by}${how}${invalid}`;
    }
    case 'conntrack':
      return `dropped by connection tracking in ${decided.netns}: ${decided.reason}, ${decided.explanation} (its counters say so)`;
    case 'kernel':
      return `dropped by the kernel in ${decided.netns}: ${decided.explanation ?? decided.reason} (${
        decided.evidence === 'counter' ? 'its counters say so' : `it says so: ${decided.reason}${decided.function ? ' in ' + decided.function : ''}`})`;
    default: {
      const causes = between?.causes?.length ? `, perhaps since: ${between.causes.join(', ')}` : '';
      return `lost in ${(decided.suspects ?? []).join(' or ') || 'a place that is not known'} in ${decided.netns}${causes}; which rule did it is not known`;
    }
  }
}

function ending(path) {
  switch (path.outcome) {
    case 'dropped': return decision(path.decided_by, path.dropped_between);
    case 'delivered': return `to the sockets of ${path.steps.at(-1)?.netns ?? '?'}`;
    case 'sent': {
      const last = path.steps.at(-1);
      return `left ${last?.netns ?? '?'}${last?.out ? ' through ' + last.out : ''}`;
    }
    case 'incomplete': return `not known: ${path.reason ?? 'events are missing'}`;
    default: return 'may still go on';
  }
}

function ruleText(decided) {
  if (!decided || !(decided.kind === 'rule' || decided.kind === 'policy')) return null;
  return decided.rule ?? `number ${decided.handle ?? 0}, which could not be read or is gone`;
}

const nearestText = nearest =>
  `${nearest.rule} would accept but for ` + [
    ...nearest.failed.map(one => one.condition + (one.packet_value === null ? '' : ` (it was ${one.packet_value})`)),
    ...nearest.unknown.map(one => `${one} (what it was is not known)`),
  ].join(' and ');

function completenessText(all) {
  const parts = [];
  const say = (value, text) => { if (value) parts.push(text(value)); };
  say(all.lost, n => `${count(n, 'event')} lost`);
  say(all.rule_traces_lost, n => `${n} deliveries of rule traces lost`);
  say(all.drop_reasons_lost, n => `${count(n, 'drop reason')} of the kernel lost`);
  say(all.gaps, n => count(n, 'gap') + ' in the recording');
  say(all.thinned, n => `${count(n, 'event')} of flows that were not followed`);
  say(all.followed_one_in, n => `1 flow in ${n} is followed`);
  say(all.sampled_one_in, n => `1 flow in ${n} is reported`);
  say(all.namespaces_left_out, n => `${count(n, 'namespace')} not followed`);
  say(all.namespaces_unread, n => `the rules of ${count(n, 'namespace')} not read`);
  say(all.behind_us, n => `receiving lags by ${Math.round(n / 1000)} ms`);
  say(all.overflows, n => count(n, 'receive buffer overflow'));
  say(all.incomplete, n => count(n, 'packet') + ' whose end is not known');
  say(all.ambiguous, n => `${n} ambiguous`);
  say(all.unlisted, n => `${n} past the number of paths that are kept`);
  say(all.malformed, n => `${n} messages not understood`);
  say(all.unplaced, n => `${count(n, 'event')} with a prefix that no rule has`);
  return parts.join(', ');
}
