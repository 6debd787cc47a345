"""Drives the page in Chromium against a collector that traces real packets; prints a line for each check, ends with 1 if one failed.

    page_test.py live URL        a collector whose host drops pings by a rule with a comment that tries to be markup
    page_test.py recorded FILE   the same traffic as a page with its reports inside
    page_test.py token URL WORD  an endpoint that wants a token
    page_test.py empty URL       a collector that has seen nothing
"""
import sys
from playwright.sync_api import sync_playwright, expect

failures = []
expect.set_options(timeout=15000)


def check(name, holds, detail=''):
    print(('ok ' if holds else 'FAILED ') + name + (f': {detail}' if detail and not holds else ''), flush=True)
    if not holds:
        failures.append(name)


# Every visible text with the ratio of its colour to the one behind it (WCAG 2.1, 1.4.3), and elements that have no name.
AUDIT = """() => {
  const parse = text => { const n = text.match(/[\\d.]+/g).map(Number); return {rgb: n.slice(0, 3), a: n[3] ?? 1}; };
  const light = rgb => { const [r, g, b] = rgb.map(v => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = element => { for (let e = element; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c.a > 0) return c.rgb; } return [255, 255, 255]; };
  const low = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.getClientRects().length || element.closest('svg, script, style, .hidden, .skip')) continue;
    const style = getComputedStyle(element), a = light(parse(style.color).rgb), b = light(behind(element));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700;
    if (ratio < (large ? 3 : 4.5)) low.push(`${walker.currentNode.textContent.trim().slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  const named = e => (e.getAttribute('aria-label') || e.textContent || '').trim() || e.labels?.length;
  const nameless = [...document.querySelectorAll('a[href], button, input, select, [role=region], [role=group]')].filter(e => e.getClientRects().length && !named(e)).map(e => e.outerHTML.slice(0, 80));
  const heads = document.querySelectorAll('h1').length;
  const cells = [...document.querySelectorAll('th')].filter(e => !e.getAttribute('scope')).length;
  return {low, nameless, heads, cells, language: document.documentElement.lang};
}"""


class Watch:
    """What must not happen: errors on the console, requests to somebody else."""

    def __init__(self, page, origin):
        self.errors, self.foreign, self.requests = [], [], []
        page.on('console', lambda message: self.errors.append(message.text) if message.type in ('error', 'warning') else None)
        page.on('pageerror', lambda error: self.errors.append(str(error)))
        page.on('request', lambda request: (self.requests.append(request.url), None if request.url.startswith(origin) else self.foreign.append(request.url)))

    def judge(self, what):
        check(f'{what}: no errors on the console', not self.errors, self.errors[:3])
        check(f'{what}: no request to anybody else', not self.foreign, self.foreign[:3])


def audit(page, what):
    found = page.evaluate(AUDIT)
    check(f'{what}: contrast of text', not found['low'], found['low'][:4])
    check(f'{what}: links, buttons and fields have names', not found['nameless'], found['nameless'][:3])
    check(f'{what}: one main heading, heads of columns, a language', found['heads'] == 1 and found['cells'] == 0 and found['language'] == 'en', found)


def no_overflow(page, what):
    for width in (360, 768, 1280, 1920):
        page.set_viewport_size({'width': width, 'height': 800})
        page.wait_for_timeout(100)
        extent = page.evaluate('document.scrollingElement.scrollWidth')
        check(f'{what}: {width} pixels are enough', extent <= width, extent)
    page.set_viewport_size({'width': 1280, 'height': 800})


def explains_the_drop(page, what):
    """From the map in at most two clicks to the rule and what would mend it."""
    mark = page.get_by_role('link', name='dropped by')
    mark.first.click()
    card = page.locator('.card.problem').first
    expect(card).to_contain_text('-j DROP')
    check(f'{what}: the rule is named', 'FORWARD' in card.inner_text())
    check(f'{what}: what would mend it can be copied', card.get_by_role('button', name='Copy').count() >= 1 and 'iptables' in card.locator('.cure pre').first.inner_text())
    check(f'{what}: a comment that tries to be markup is text', page.locator('main img').count() == 0 and '<img src=x' in card.inner_text())
    rows = page.get_by_role('table', name='Steps').locator('tbody tr')
    check(f'{what}: the packet is shown step by step', rows.count() >= 5, rows.count())


def live(browser, url):
    for scheme in ('light', 'dark'):
        context = browser.new_context(color_scheme=scheme)
        page = context.new_page()
        watch = Watch(page, url)
        page.goto(url)
        expect(page.locator('.map svg')).to_be_visible()
        stations = page.locator('.map .station').count()
        check(f'{scheme}: the map shows the chains', stations >= 8, stations)
        expect(page.locator('#state')).to_have_text('live')
        explains_the_drop(page, scheme)
        audit(page, f'{scheme}: map')
        for name, heading, least in [('Drops', 'Drops', '.card'), ('Findings', 'Findings', '.card'), ('Flows', 'Flows', 'tbody tr'),
                                     ('Precedence', 'In which order', '.order li'), ('Latency', 'Latency', 'tbody tr'),
                                     ('Probes', 'Probes', 'tbody tr'), ('Namespaces', 'Namespaces', 'tbody tr')]:
            page.get_by_role('navigation').get_by_role('link', name=name).click()
            expect(page.locator('h1')).to_contain_text(heading)
            expect(page.locator(f'main {least}').first).to_be_visible()
            audit(page, f'{scheme}: {name}')
        page.go_back()
        expect(page.locator('h1')).to_contain_text('Probes')
        page.go_forward()
        expect(page.locator('h1')).to_contain_text('Namespaces')
        watch.judge(scheme)
        context.close()

    page = browser.new_context().new_page()
    watch = Watch(page, url)
    page.goto(url + '/#/drops')
    expect(page.locator('h1')).to_contain_text('Drops')
    no_overflow(page, 'drops')
    page.goto(url + '/#/map')
    expect(page.locator('.map svg')).to_be_visible()
    no_overflow(page, 'map')
    # A search has an address of its own.
    page.get_by_role('searchbox').fill('sctp')
    page.get_by_role('searchbox').press('Enter')
    expect(page.locator('main')).to_contain_text('Nothing yet')
    check('a search is in the address', 'q=sctp' in page.url, page.url)
    audit(page, 'nothing found')
    page.get_by_role('searchbox').fill('icmp dropped')
    page.get_by_role('searchbox').press('Enter')
    expect(page.locator('.map svg')).to_be_visible()
    watch.judge('searches')
    page.get_by_role('searchbox').fill('port=none')
    page.get_by_role('searchbox').press('Enter')
    expect(page.get_by_role('alert')).to_be_visible()
    check('a value that is none is refused with a reason', 'port' in page.get_by_role('alert').inner_text(), page.get_by_role('alert').inner_text())
    page.goto(url + '/#/map')
    expect(page.get_by_role('alert')).to_be_hidden()
    # Paused, it stays as it is; after a loss it comes back by itself.
    page.get_by_role('button', name='Pause').click()
    expect(page.locator('#state')).to_have_text('paused')
    page.get_by_role('button', name='Go on').click()
    expect(page.locator('#state')).to_have_text('live')
    page.route('**/*', lambda route: route.abort())
    expect(page.locator('#state')).to_have_text('reconnecting…')
    check('what was seen stays while the collector is away', page.locator('.map svg').count() == 1)
    page.unroute('**/*')
    expect(page.locator('#state')).to_have_text('live', timeout=40000)
    # By keyboard alone.
    page.keyboard.press('/')
    check('a key leads to the search', page.evaluate("document.activeElement.id") == 'query')


def recorded(browser, path):
    page = browser.new_context().new_page()
    watch = Watch(page, 'file://')
    page.goto('file://' + path)
    expect(page.locator('.map svg')).to_be_visible()
    explains_the_drop(page, 'recorded')
    check('recorded: it asks nobody', watch.requests == ['file://' + path], watch.requests[:3])
    watch.judge('recorded')


def token(browser, url, word):
    page = browser.new_context().new_page()
    page.goto(url)
    page.get_by_role('textbox', name='Token').fill('another-word-that-is-long')
    page.get_by_role('button', name='Go on').click()
    expect(page.get_by_role('textbox', name='Token')).to_be_visible()
    page.get_by_role('textbox', name='Token').fill(word)
    page.get_by_role('button', name='Go on').click()
    expect(page.locator('.map svg')).to_be_visible()
    check('with the token it shows what there is', page.locator('.map .station').count() > 5)


def empty(browser, url):
    page = browser.new_context().new_page()
    watch = Watch(page, url)
    page.goto(url)
    expect(page.locator('main')).to_contain_text('sudo ipt-trace install-probes')
    check('with nothing to show it says what to do next', True)
    audit(page, 'empty')
    watch.judge('empty')


with sync_playwright() as playwright:
    chromium = playwright.chromium.launch(executable_path='/usr/bin/chromium', args=['--no-sandbox', '--disable-dev-shm-usage'])
    {'live': live, 'recorded': recorded, 'token': token, 'empty': empty}[sys.argv[1]](chromium, *sys.argv[2:])
    chromium.close()
print(f'{len(failures)} checks failed')
sys.exit(1 if failures else 0)
