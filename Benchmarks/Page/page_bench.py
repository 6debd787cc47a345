"""How fluently the page draws: many paths of many namespaces, drawn anew each second, beside an empty page.

    ipt-trace analyze Tests/Fixtures/gallery/docker.pcapng.zst --serve --listen 127.0.0.1:9191 &
    .build/python/bin/python Benchmarks/Page/page_bench.py http://127.0.0.1:9191 [PATHS NAMESPACES]

The paths are those of the server with their namespaces and counts made by chance. Needs Debian's Chromium and playwright
(tools/prepare test).
"""
import copy
import json
import random
import sys
import urllib.request

from playwright.sync_api import sync_playwright

url = sys.argv[1]
count, namespaces = (int(word) for word in (sys.argv[2:4] or ['500', '60']))
with urllib.request.urlopen(url + '/paths') as answer:
    base = json.load(answer)
random.seed(1)


def by_chance():
    paths = []
    for index in range(count):
        path = copy.deepcopy(random.choice(base['paths']))
        names = {step['netns']: f'ns{random.randrange(namespaces)}' for step in path['steps']}
        for step in path['steps']:
            step['netns'] = names[step['netns']]
        path.update(id=f'{index:016x}', packets=random.randrange(1, 10000))
        paths.append(path)
    return json.dumps({**base, 'paths': paths})


MEASURE = """
window.tasks = []; window.frames_ = 0;
new PerformanceObserver(list => list.getEntries().forEach(entry => tasks.push(entry.duration))).observe({type: 'longtask', buffered: true});
(function frame() { frames_++; requestAnimationFrame(frame); })();
"""

with sync_playwright() as playwright:
    browser = playwright.chromium.launch(executable_path='/usr/bin/chromium', args=['--no-sandbox'])
    for is_full in (False, True):
        page = browser.new_page(viewport={'width': 1440, 'height': 900})
        if is_full:
            answers = [by_chance() for _ in range(6)]
            turn = [0]

            def answer(route):
                turn[0] += 1
                route.fulfill(status=200, content_type='application/json', body=answers[turn[0] % len(answers)])

            page.route('**/paths*', answer)
        page.add_init_script(MEASURE)
        page.goto(url if is_full else 'about:blank')
        if is_full:
            page.wait_for_selector('.map svg')
        began = page.evaluate('(frames_ = 0, performance.now())')
        for _ in range(5):
            if is_full:
                page.evaluate("window.dispatchEvent(new Event('hashchange'))")
            page.wait_for_timeout(1000)
        frames, ended, tasks = page.evaluate('[frames_, performance.now(), tasks]')
        what = f'{count} paths of {namespaces} namespaces' if is_full else 'an empty page'
        longest = max(tasks, default=0)
        print(f'{what}: {frames / (ended - began) * 1000:.0f} frames/s, {len(tasks)} tasks over 50 ms, the longest {longest:.0f} ms')
    browser.close()
