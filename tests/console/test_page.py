"""What a person does in the console, in a real Chromium before the real gateway."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect

from proto.errors import Transient
from proto.v1 import query_pb2
from tests.clips import CLIPS
from tests.console.conftest import PATIENCE_MS
from tests.console.house import CAMERAS, NOW_MS, PICTURES, House
from tests.console.npm import node_modules

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

HOSTILE = "<img src=x onerror=window.hacked=1>"
PAGES = {
    "home": "/",
    "ask": "/?q=bicycle",
    "nothing": "/?q=elephant",
    "moment": f"/?q=bicycle&moment={0:030x}01&at=1790000184000",
    "when": "/?page=when&q=bicycle",
    "live": "/?page=live",
    "cameras": "/?page=cameras",
    "camera": "/?page=cameras&edit=bikes",
    "system": "/?page=system",
}


def ask(page: Page, words: str) -> None:
    page.get_by_role("searchbox", name="What to look for").fill(words)
    page.keyboard.press("Enter")


def sure_cards(page: Page) -> list[str]:
    """The cameras of the sure answers, when they are there."""
    expect(page.locator(".answer[aria-busy=false]")).to_be_visible()
    return page.locator(".wall:not(.weak) .camera").all_inner_texts()


def settled(page: Page, path: str) -> None:
    """Open a page, and wait until what it shows at first is there."""
    page.goto(path)
    expect(page.get_by_role("heading", level=1)).to_have_count(1)
    if "page=live" in path:  # its stream never ends
        expect(page.locator(".cameras .card").first).to_be_visible()
    else:
        page.wait_for_load_state("networkidle")
    below = "one => one.getBoundingClientRect().top > innerHeight"
    until(page, f"[...document.querySelectorAll('.picture.waiting')].every({below})")


def until(page: Page, true: str) -> None:
    """Wait until an expression is true. Playwright's own way needs eval in the page, which its policy forbids."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(true):
        assert time.monotonic() < deadline, f"never true: {true}"
        page.wait_for_timeout(50)


def test_a_question_is_answered_by_a_wall_of_pictures_and_stands_in_the_address(page: Page, house: House) -> None:
    page.goto("/")
    expect(page.get_by_text("2 cameras are watching")).to_be_visible()
    ask(page, "a bicycle")
    assert sure_cards(page) == ["bikes"] * PICTURES
    assert (house.last["text"], house.last["limit"]) == ("a bicycle", 24)
    expect(page).to_have_url(re.compile(r"/\?q=a\+bicycle$"))
    card = page.locator(".card").nth(1)
    expect(card.get_by_role("img", name=re.compile("Picture of bikes"))).to_be_visible()
    expect(card.locator(".box-mark")).to_have_count(1)
    expect(card).to_contain_text("bicycle ×2")
    page.go_back()
    expect(page.get_by_role("heading", name="Watchword")).to_be_visible()


def test_nothing_sure_is_said_plainly(page: Page, house: House) -> None:
    page.goto("/?q=elephant")
    expect(page.get_by_role("heading", name="Nothing matches with confidence")).to_be_visible()
    expect(page.get_by_text("The nearest were:")).to_be_visible()
    assert sure_cards(page) == []
    expect(page.locator(".wall.weak .card")).to_have_count(3 * PICTURES)


def test_no_box_is_drawn_in_a_picture_of_another_instant(page: Page, house: House) -> None:
    page.goto("/?q=bicycle&camera=bikes")
    other = page.locator(".card", has=page.locator(f'[data-moment="{house.without_its_picture}"]'))
    expect(other.locator("img")).to_be_visible()
    expect(page.locator(".wall .box-mark")).to_have_count(PICTURES - 1)
    expect(other.locator(".box-mark")).to_have_count(0)


def test_filters_narrow_the_question_and_a_link_restores_them(page: Page, house: House) -> None:
    page.goto("/?q=bicycle")
    page.get_by_role("button", name="Cameras").click()
    page.get_by_role("checkbox", name="bikes").check()
    page.keyboard.press("Escape")
    page.get_by_role("button", name=re.compile("^Confidence")).click()
    page.get_by_role("radio", name="At least 80%").check()
    page.get_by_role("button", name=re.compile("^Order")).click()
    page.get_by_role("radio", name="Earliest first").check()
    expect(page).to_have_url(re.compile(r"\?q=bicycle&camera=bikes&sure=0\.8&order=time$"))
    page.reload()
    assert sure_cards(page) == ["bikes"] * PICTURES
    asked = house.last
    assert (asked["cameras"], asked["least"], asked["by_time"]) == (("bikes",), 0.8, True)
    page.get_by_role("button", name="Clear filters").click()
    expect(page).to_have_url(re.compile(r"\?q=bicycle&order=time$"))


def test_the_keys_walk_open_leaf_and_close(page: Page, house: House) -> None:
    page.goto("/?q=bicycle")
    expect(page.locator(".card")).to_have_count(3 * PICTURES)
    page.keyboard.press("/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.press("Escape")
    for key in ("ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    second = page.locator("a.open").nth(1)
    expect(second).to_be_focused()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name="bikes")
    expect(dialog).to_contain_text("Confidence")
    page.keyboard.press("ArrowRight")
    third = page.locator("a.open").nth(2).get_attribute("data-moment")
    expect(page).to_have_url(re.compile(f"moment={third}"))
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page.locator("a.open").nth(2)).to_be_focused()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()


def test_more_like_this_and_a_part_of_a_picture_are_questions(page: Page, house: House) -> None:
    page.goto("/?q=person")
    page.locator("a.open").nth(1).click()
    page.get_by_role("dialog").get_by_role("button", name="More like this").click()
    expect(page).to_have_url(re.compile(r"\?like=0{29}20[0-9a-f]$"))
    assert sure_cards(page) == ["car"] * (PICTURES - 1)
    page.locator("a.open").first.click()
    page.get_by_role("button", name="Ask by a part").click()
    chooser = page.get_by_role("application")
    place = chooser.bounding_box()
    assert place is not None
    middle = (place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    page.mouse.move(middle[0] - 60, middle[1] - 60)
    page.mouse.down()
    page.mouse.move(middle[0] + 60, middle[1] + 40, steps=3)
    page.mouse.up()
    page.get_by_role("button", name="Ask by this").click()
    assert sure_cards(page) == ["meadow"] * PICTURES
    part = Image.open(io.BytesIO(house.last["image"]))
    assert part.format == "JPEG"
    assert part.width / part.height == pytest.approx(1.2, rel=0.15)
    house.asked.clear()
    page.reload()
    assert sure_cards(page) == ["meadow"] * PICTURES
    assert Image.open(io.BytesIO(house.last["image"])).size == part.size


def test_a_picture_dropped_in_is_a_question_and_what_is_none_is_refused(page: Page, house: House) -> None:
    page.goto("/")
    picture = io.BytesIO()
    Image.new("RGB", (2000, 1000), "green").save(picture, "PNG")
    chooser = page.locator("input[type=file]")
    chooser.set_input_files({"name": "a.txt", "mimeType": "image/png", "buffer": b"no picture"})
    expect(page.get_by_role("alert")).to_contain_text("no picture that this browser can open")
    chooser.set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": picture.getvalue()})
    assert sure_cards(page) == ["meadow"] * PICTURES
    sent = Image.open(io.BytesIO(house.last["image"]))
    assert (sent.format, sent.size) == ("JPEG", (1280, 640))
    page.reload()
    assert sure_cards(page) == ["meadow"] * PICTURES
    page.evaluate("sessionStorage.clear()")
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("The picture of this question is not here")


def test_a_saved_question_comes_back_after_a_reload(page: Page, house: House) -> None:
    page.goto("/?q=bicycle&camera=bikes")
    page.get_by_role("button", name="Save this question").click()
    page.goto("/")
    page.get_by_role("button", name="bicycle · bikes").first.click()
    assert sure_cards(page) == ["bikes"] * PICTURES
    assert house.last["cameras"] == ("bikes",)


def test_what_was_not_looked_at_is_said(page: Page, house: House) -> None:
    house.away = True
    page.goto("/?q=bicycle")
    expect(page.locator(".summary")).to_contain_text(re.compile(r"meadow was away .*14:15:20 . 14:18:20"))
    expect(page.locator(".summary")).to_contain_text("looked at up to")


def test_errors_say_what_to_do_and_asking_again_helps(page: Page, house: House) -> None:
    house.error = Transient("the index does not answer", todo="run `watchword doctor`")
    page.goto("/?q=bicycle")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The index does not answer")
    expect(alert.locator("code")).to_have_text("watchword doctor")
    house.error = None
    alert.get_by_role("button", name="Try again").click()
    assert sure_cards(page) == ["bikes"] * PICTURES
    page.context.set_offline(True)
    ask(page, "person")
    expect(page.get_by_role("alert")).to_contain_text("Watchword does not answer")
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    assert sure_cards(page) == ["car"] * PICTURES


def test_an_unknown_camera_in_a_link_is_told_in_the_services_words(page: Page, house: House) -> None:
    page.goto("/?q=bicycle&camera=nowhere")
    expect(page.get_by_role("alert")).to_contain_text("There is no camera 'nowhere'")


def test_a_token_is_asked_for_sent_with_pictures_too_and_kept_for_this_tab_only(page: Page, house: House) -> None:
    def guarded(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer right":
            route.continue_()
        else:
            body = '{"title": "Denied", "status": 401, "detail": "a token is needed", "todo": "send one"}'
            route.fulfill(status=401, content_type="application/problem+json", body=body)

    page.route("**/api/v1/**", guarded)
    page.goto("/?q=bicycle")
    for token in ("wrong", "right"):
        page.get_by_role("dialog", name="Who are you?").get_by_label("Token").fill(token)
        page.keyboard.press("Enter")
    assert sure_cards(page) == ["bikes"] * PICTURES
    expect(page.get_by_role("img", name=re.compile("Picture of bikes")).first).to_be_visible()
    assert page.evaluate("[sessionStorage['watchword.token'], JSON.stringify(localStorage).includes('right')]") == [
        "right",
        False,
    ]


def test_names_and_questions_are_text_whatever_they_are(page: Page, house: House) -> None:
    def hostile(route: Route) -> None:
        answer = route.fetch()
        body = answer.text().replace('"bikes"', f'"{HOSTILE}"').replace('"bicycle"', f'"{HOSTILE}"')
        route.fulfill(response=answer, body=body)

    page.route("**/api/v1/cameras", hostile)
    page.route("**/api/v1/search?*", hostile)
    for path in ("/?q={}", "/?page=when&q={}", "/?page=cameras&q={}"):
        settled(page, path.format("bicycle" + HOSTILE.replace("=", "%3D")))
        expect(page.get_by_text(HOSTILE).first).to_be_attached()
        assert page.locator("img[src=x]").count() == 0
    page.goto("/?q=bicycle")
    page.locator("a.open").first.click()
    expect(page.get_by_role("dialog", name=HOSTILE)).to_be_visible()
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Objects").click()
    page.get_by_role("checkbox", name=HOSTILE).check()
    page.get_by_role("button", name="Save this question").click()
    assert page.evaluate("window.hacked") is None


@pytest.mark.parametrize(
    "query",
    [
        "q=%00&since=-1h&sure=NaN",
        "part=x&part_at=1&part_box=2,0,1,1",
        "from=never&to=1e99&limit=-3&page=admin",
        "moment=../..&q=x",
    ],
)
def test_a_spoilt_address_still_opens_the_page(page: Page, house: House, query: str) -> None:
    page.goto(f"/?{query}")
    expect(page.locator("input#question")).to_be_visible()


def test_a_clip_is_played_in_place_where_there_is_one(page: Page, house: House) -> None:
    page.goto("/?q=bicycle")
    page.locator("a.open").first.click()
    expect(page.get_by_role("dialog").get_by_role("img")).to_be_visible()
    page.wait_for_load_state("networkidle")
    expect(page.get_by_role("button", name="Play")).to_have_count(0)
    page.route("**/api/v1/clip?*", lambda route: route.fulfill(path=CLIPS["bikes"], content_type="video/mp4"))
    page.keyboard.press("ArrowRight")
    page.get_by_role("button", name="Play").click()
    until(page, "document.querySelector('video')?.readyState > 0")


def test_the_timeline_shows_answers_and_gaps_and_opens_a_moment(page: Page, house: House) -> None:
    house.away = True
    page.goto("/?page=when&q=bicycle")
    expect(page.locator('svg[data-camera="bikes"] .hit.sure')).to_have_count(PICTURES)
    expect(page.locator('svg[data-camera="meadow"] .gap')).to_have_count(1)
    assert (house.last["limit"], house.last["by_time"]) == (500, True)
    span = page.locator(".view-span").inner_text()
    area = page.get_by_role("application")
    area.focus()
    page.keyboard.press("+")
    expect(page.locator(".view-span")).not_to_have_text(span)
    page.keyboard.press("0")
    expect(page.locator(".view-span")).to_have_text(span)
    page.locator('svg[data-camera="bikes"] .hit.sure').nth(2).hover()
    expect(page.locator(".preview img")).to_be_visible()
    page.locator('svg[data-camera="bikes"] .hit.sure').nth(2).click()
    expect(page.get_by_role("dialog", name="bikes")).to_be_visible()
    page.keyboard.press("Escape")
    area.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()


def test_an_empty_house_leads_to_the_first_camera_and_goes_on_by_itself(page: Page, house: House) -> None:
    empty = {"cameras": True}

    def few(route: Route) -> None:
        if empty["cameras"]:
            route.fulfill(json={"cameras": [], "kinds": []})
        else:
            route.continue_()

    page.route("**/api/v1/cameras", few)
    page.goto("/")
    expect(page.get_by_role("heading", name="No camera yet")).to_be_visible()
    expect(page.get_by_text("watchword camera add gate")).to_be_visible()
    empty["cameras"] = False
    expect(page.get_by_text("2 cameras are watching")).to_be_visible()


def test_cameras_and_system_say_how_it_stands(page: Page, house: House) -> None:
    settled(page, "/?page=live")
    expect(page.locator(".cameras .card")).to_have_count(len(CAMERAS))
    expect(page.locator(".cameras .card", has_text="car")).to_contain_text("removed")
    settled(page, "/?page=system")
    expect(page.get_by_text("Questions can be answered")).to_be_visible()
    expect(page.get_by_text("1.2.3")).to_be_visible()
    house.error = Transient("the query service is away", todo="")
    page.reload()
    expect(page.get_by_text("Questions cannot be answered now")).to_be_visible()


@pytest.mark.parametrize(("language", "placeholder"), [("Deutsch", "Wonach suchen Sie?"), ("中文", "您在找什么？")])
def test_the_page_speaks_the_chosen_language_also_after_a_reload(
    page: Page, house: House, language: str, placeholder: str
) -> None:
    page.goto("/")
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("radio", name=language).check()
    page.reload()
    expect(page.get_by_placeholder(placeholder)).to_be_visible()


def test_dark_and_light_follow_the_system_until_one_is_chosen(page: Page, house: House) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    page.goto("/")
    light = page.evaluate(ground)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(ground)
    assert light != dark
    page.get_by_role("button", name="Settings").click()
    page.get_by_role("radio", name="Light").check()
    page.reload()
    expect(page.get_by_role("searchbox")).to_be_visible()
    assert page.evaluate(ground) == light


@pytest.mark.parametrize("width", [360, 1280])
def test_every_page_fits_and_axe_finds_nothing_serious(
    page: Page, house: House, width: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    axe = (node_modules(tmp_path) / "axe-core" / "axe.min.js").read_text()
    folder = request.config.getoption("--screenshots", None)
    house.away = True
    page.set_viewport_size({"width": width, "height": 740 if width < 600 else 860})
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        for name, path in PAGES.items():
            settled(page, path)
            over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert over <= 0, f"{name} is {over} pixels too wide at {width}"
            if folder is not None:
                page.screenshot(path=folder / f"{name}-{width}-{scheme}.png")
            if (scheme == "dark") != (width < 600):
                continue  # both widths and both schemes are looked at, not each with each
            page.evaluate(axe)
            found = page.evaluate("axe.run({resultTypes: ['violations']})")
            grave = [
                f"{name}, {scheme}: {one['id']} at {one['nodes'][0]['target']}"
                for one in found["violations"]
                if one["impact"] in ("serious", "critical")
            ]
            assert grave == []


def test_a_camera_that_fails_says_why_and_one_that_lives_what_it_sends(page: Page, house: House) -> None:
    failing = query_pb2.CameraStatus(state="failing", since_ms=NOW_MS, why="no camera answers at rtsp://10.0.0.7/")
    live = query_pb2.CameraStatus(
        state="live", width=1280, height=720, codec="h264", fps_got=1.9, fps_wanted=2, advice=["ask for <b>2 s</b>"]
    )
    before = house.cameras
    house.cameras = [
        query_pb2.CameraInfo(name="bikes", watching=True, groups=["yard"], status=failing),
        query_pb2.CameraInfo(name="meadow", watching=True, status=live),
    ]
    try:
        settled(page, "/?page=live")
        bikes, meadow = (page.locator(".cameras .card", has_text=name) for name in ("bikes", "meadow"))
        expect(bikes).to_contain_text("failing")
        expect(bikes).to_contain_text("no camera answers at rtsp://10.0.0.7/")
        expect(bikes).to_contain_text("yard")
        expect(meadow).to_contain_text("h264 1280 × 720, 1.9 of 2.0 pictures a second")
        expect(meadow).to_contain_text("ask for <b>2 s</b>")
    finally:
        house.cameras = before


def test_a_house_of_thousands_of_cameras_can_still_be_narrowed(page: Page, house: House) -> None:
    house_of_many = [query_pb2.CameraInfo(name=f"camera-{number}", watching=True) for number in range(3000)]
    before, house.cameras = house.cameras, house_of_many
    try:
        page.goto("/?q=bicycle")
        page.get_by_role("button", name="Cameras").click()
        page.get_by_role("searchbox", name="Find in Cameras").fill("camera-2999")
        expect(page.get_by_role("checkbox")).to_have_count(1)
    finally:
        house.cameras = before
