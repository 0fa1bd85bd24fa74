#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Looks at the web page as a person does: web_page.py SOURCE-URL TARGET-URL [DIRECTORY-FOR-SCREENSHOTS].

The source protects vm1 (well) and vm2 (paused, and older than its RPO). Ends with a traceback where the page is not as it should be.
"""
import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from webdriver import Browser  # noqa: E402

TAB, ENTER = "\ue004", "\ue007"

# The contrast of each text on the page with what is behind it; WCAG AA asks for 4.5.
CONTRAST = """
const value = c => { const v = c / 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
const light = ([r, g, b]) => 0.2126 * value(r) + 0.7152 * value(g) + 0.0722 * value(b);
const numbers = text => text.match(/[\\d.]+/g).map(Number);
const behind = element => {
	for (; element; element = element.parentElement) {
		const c = numbers(getComputedStyle(element).backgroundColor);
		if (c.length === 3 || c[3] > 0) return c;
	}
	return [255, 255, 255];
};
const poor = [];
for (const element of document.querySelectorAll("body *")) {
	const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
	if (!own || element.closest("svg, script, noscript, select, .skip") || !element.getClientRects().length) continue;
	const a = light(numbers(getComputedStyle(element).color)), b = light(behind(element));
	const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
	if (ratio < 4.5) poor.push(`${element.textContent.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
}
return poor;
"""


def shot(browser, name):
    if len(sys.argv) > 3:
        browser.shot(os.path.join(sys.argv[3], name + ".png"))


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def no_complaints(browser):
    found = browser.complaints()
    check(not found, f"the console says: {found}")


def readable(browser, where):
    poor = browser.js(CONTRAST)
    check(not poor, f"too little contrast {where}: {poor}")


def source_page(browser, url):
    browser.go(url)
    browser.wait("the verdict", "return document.getElementById('verdict').textContent === '1 of 2 not well'")
    names = browser.js("return [...document.querySelectorAll('.name')].map(e => e.textContent)")
    check(names == ["vm2", "vm1"], f"what is not well does not come first: {names}")
    why = browser.js("return document.querySelector('li.critical').innerText")
    check("of the RPO of 1 s" in why and "paused" in why.lower(), f"the reason is not told: {why}")
    check(browser.js("return document.querySelectorAll('#events li').length") > 0, "there is no event")
    newest = browser.js("return document.querySelector('#events li').innerText")
    check("event of before" not in newest, f"the newest event is not the first: {newest}")
    readable(browser, "in the light")
    shot(browser, "source-light")

    # By keyboard alone: to the first protection, open it, and stay there while the page renews itself.
    for _ in range(12):
        browser.keys(TAB)
        if browser.js("return document.activeElement.dataset.key || ''") == "vm2":
            break
    check(browser.js("return document.activeElement.dataset.key") == "vm2", "the keyboard does not reach the first protection")
    browser.keys(ENTER)
    browser.wait("the details", "return !!document.querySelector('#more-vm2 svg.plot')")
    browser.wait("two more rounds", "return (window.rounds = (window.rounds || new Set())).add(document.getElementById('asked').textContent).size > 3")
    check(browser.js("return document.activeElement.dataset.key") == "vm2", "the focus is lost when the page renews itself")
    check(browser.js("return document.activeElement.getAttribute('aria-expanded')") == "true", "it is not said that it is open")
    check("missed" in browser.js("return document.querySelector('#more-vm2 svg.plot').getAttribute('aria-label')"), "the plot is not described")
    check(browser.js("return document.querySelectorAll('#more-vm2 svg.plot rect').length") > 0, "the plot is empty")
    browser.click("[data-key='vm2/hour']")
    browser.wait("the window of an hour", "return document.querySelector(\"[data-key='vm2/hour']\").getAttribute('aria-pressed') === 'true'")
    shot(browser, "source-open")

    browser.type("#find", "vm1")
    browser.wait("the filter", "return document.querySelectorAll('.name').length === 1")
    browser.type("#find", "zz")
    browser.wait("that nothing is found", "return !document.getElementById('none').hidden")
    browser.js("const f = document.getElementById('find'); f.value = ''; f.dispatchEvent(new Event('input'))")
    path = browser.js("return document.querySelector('#more-vm2 dl').innerText")
    check("<b>" in path, f"markup in a path is not shown as text: {path}")
    check(browser.js("return document.querySelectorAll('#list b').length") == 0, "a path became markup")


def sizes_and_schemes(browser):
    for name, width, height, phone in (("phone", 360, 740, True), ("tablet", 820, 1180, True), ("wide", 1900, 1000, False)):
        browser.resize(width, height, phone)
        check(browser.js("return document.documentElement.scrollWidth <= window.innerWidth"), f"the page is wider than a {name}")
        small = browser.js("return [...document.querySelectorAll('button, input, select')].filter(e => e.getClientRects().length && e.getBoundingClientRect().height < 32).length")
        check(small == 0, f"something to touch is too small on a {name}")
        shot(browser, f"source-{name}")
    browser.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    browser.wait("the dark", "return getComputedStyle(document.body).backgroundColor === 'rgb(20, 24, 27)'")
    readable(browser, "in the dark")
    shot(browser, "source-dark")
    browser.cdp("Emulation.setEmulatedMedia", features=[])
    browser.cdp("Emulation.clearDeviceMetricsOverride")


def target_page(browser, url):
    browser.go(url)
    browser.wait("both replicas", "return document.querySelectorAll('.name').length === 2")
    browser.click("[data-key='vm1']")
    browser.wait("the points", "return document.querySelectorAll('#more-vm1 svg.points circle').length > 0")
    check(browser.js("return document.querySelectorAll('#more-vm1 svg.points circle.pinned').length") == 1, "the pinned point is not marked")
    check("pinned: before upgrade" in browser.js("return document.querySelector('#more-vm1 circle.pinned title').textContent"), "the pin's text is not told")
    spread = "const at = [...document.querySelectorAll('#more-vm1 svg.points circle')].map(dot => Number(dot.getAttribute('cx'))); return Math.max(...at) - Math.min(...at)"
    before = browser.js(spread)
    check(before > 1, "points of different ages are in one place")
    browser.js("const now = Date.now; Date.now = () => now() + 365 * 86400000; document.getElementById('order').dispatchEvent(new Event('change'))")
    check(browser.js(spread) > before / 3, "points are aged by the browser's clock")
    readable(browser, "at the target")
    shot(browser, "target-open")


def main():
    browser = Browser()
    try:
        source_page(browser, sys.argv[1])
        sizes_and_schemes(browser)
        no_complaints(browser)
        target_page(browser, sys.argv[2])
        no_complaints(browser)
    finally:
        browser.close()


main()
