"""Adding, masking and removing a camera in a real Chromium, with real pictures of a real file or RTSP server."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from proto.access import Role
from proto.types import Camera
from tests.clips import CLIPS
from tests.console.conftest import PATIENCE_MS
from tests.console.house import House
from tests.manage.fakes import InProcess
from tests.tools.rtsp import rtsp_camera

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

SECRET = "hunter2"


def halves(picture: Locator) -> tuple[float, float]:
    """How bright the left and the right half of a picture are, as they are shown."""
    expect(picture).to_be_visible()
    shown = np.asarray(Image.open(io.BytesIO(picture.screenshot())).convert("L"))
    middle = shown.shape[1] // 2
    return float(shown[10:-10, 10 : middle - 10].mean()), float(shown[10:-10, middle + 10 : -10].mean())


def draw_left_half(page: Page) -> None:
    page.get_by_role("button", name="Draw a mask").click()
    area = page.locator(".drawer-stage svg")
    box = area.bounding_box()
    assert box is not None
    for across, down in ((0, 0), (0.5, 0), (0.5, 1), (0, 1)):
        # Just inside the picture: what lies on its border belongs to what is beside it.
        page.mouse.click(
            box["x"] + min(max(across * box["width"], 1), box["width"] - 1),
            box["y"] + min(max(down * box["height"], 1), box["height"] - 1),
        )
    page.get_by_role("button", name="Close the area").click()
    expect(page.locator(".drawer-list")).to_contain_text("Mask 1")


@pytest.fixture
def source() -> Iterator[str]:
    """The address of a camera: of a real RTSP server, or the path of a file where there is none."""
    with rtsp_camera(CLIPS["bikes"]) as address:
        yield address or str(CLIPS["bikes"])


def test_a_camera_is_tested_added_seen_live_masked_and_removed(page: Page, house: House, source: str) -> None:
    page.goto("/?page=cameras")
    page.get_by_role("button", name="Add a camera").click()
    page.get_by_label("Name").fill("yard")
    page.get_by_label("Address").fill("/nowhere/at/all.mp4")
    page.get_by_role("button", name="Take a test picture").click()
    expect(page.get_by_role("alert")).to_contain_text("There is no file /nowhere/at/all.mp4")
    page.get_by_label("Address").fill(source)
    page.get_by_role("button", name="Take a test picture").click()
    expect(page.get_by_text("h264 640 × 272, 25/s")).to_be_visible()
    assert min(halves(page.locator(".drawer-stage img"))) > 40
    page.get_by_label("Groups").fill("outside, yard")
    page.get_by_label("Site").fill("north")
    is_file = source.startswith("/")
    expect(page.get_by_label("Start the file again")).to_have_count(int(is_file))
    if is_file:
        page.get_by_label("Start the file again").check()
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.locator(".row", has_text="yard")).to_contain_text("outside, yard")
    assert [(one.name, one.groups, one.loop) for one in house.added] == [("yard", ("outside", "yard"), is_file)]

    page.get_by_role("link", name="Live").click()
    live = page.locator(".cameras .card", has_text="yard").locator("img")
    assert min(halves(live)) > 40

    page.goto("/?page=cameras&edit=yard")
    draw_left_half(page)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert (len(house.added[0].masks), house.added[0].site) == (1, "north")
    page.get_by_role("link", name="Live").click()
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while True:  # the stream tells of the masked picture within some seconds
        left, right = halves(live)
        if left < 12 and right > 40:
            break
        assert time.monotonic() < deadline, f"never masked: {left:.0f}, {right:.0f}"
        page.wait_for_timeout(200)

    page.goto("/?page=cameras&edit=yard")
    page.get_by_role("button", name="Remove", exact=True).click()
    sure = page.get_by_role("dialog", name="Remove yard?")
    sure.get_by_role("button", name="Cancel").click()
    assert house.added
    page.get_by_role("button", name="Remove", exact=True).click()
    sure.get_by_role("button", name="Remove", exact=True).click()
    expect(page.locator(".row", has_text="yard")).to_have_count(0)
    assert not house.added


def test_an_area_is_drawn_and_moved_by_the_keys_alone(page: Page, house: House) -> None:
    page.goto("/?page=cameras&edit=bikes")
    expect(page.locator(".drawer-stage img")).to_be_visible()
    page.get_by_role("button", name="Draw an area to ignore").press("Enter")
    for keys in ("Space", "Shift+ArrowRight Space", "Shift+ArrowDown Space", "Space Backspace", "Enter"):
        for key in keys.split():
            page.keyboard.press(key)
    expect(page.locator(".drawer-list")).to_contain_text("Ignored area 1")
    corner = page.get_by_role("button", name=re.compile("Corner 1 of Ignored area 1"))
    corner.focus()
    page.keyboard.press("Shift+ArrowLeft")
    page.get_by_role("button", name="Save").press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert house.registry.get("bikes").ignored == (((0.4, 0.5), (0.6, 0.5), (0.6, 0.6)),)


def test_what_somebody_else_changed_is_not_overwritten(page: Page, house: House) -> None:
    page.goto("/?page=cameras&edit=bikes")
    page.get_by_label("Pictures a second").fill("3")
    house.registry.change("bikes", lambda one: Camera(one.name, one.url, fps=1.0))
    page.get_by_role("button", name="Save").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("Bikes was changed meanwhile")
    alert.get_by_role("button", name="Try again").click()
    expect(page.get_by_label("Pictures a second")).to_have_value("1")
    page.get_by_label("Pictures a second").fill("3")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert house.registry.get("bikes").fps == 3


def test_a_save_that_failed_for_a_moment_is_tried_again_with_all_that_was_drawn(page: Page, house: House) -> None:
    page.goto("/?page=cameras&edit=bikes")
    draw_left_half(page)
    away = {"title": "Transient", "detail": "the catalog is busy", "todo": "try again"}
    page.route("**/api/v1/cameras/bikes", lambda route: route.fulfill(status=503, json=away))
    page.get_by_role("button", name="Save").click()
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text("The catalog is busy")
    page.unroute("**/api/v1/cameras/bikes")
    alert.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert len(house.registry.get("bikes").masks) == 1


def test_what_is_decoded_is_chosen_for_a_stream_and_not_offered_for_a_file(page: Page, house: House) -> None:
    page.goto("/?page=cameras&edit=meadow")
    expect(page.get_by_label("Start the file again")).to_be_visible()
    expect(page.get_by_label("Decode")).to_have_count(0)
    house.registry.change("bikes", lambda one: Camera(one.name, "rtsp://127.0.0.1:9/stream"))
    for chosen, kept in (("off", "off"), ("auto", "auto"), ("", None)):
        page.goto("/?page=cameras&edit=bikes")
        page.get_by_label("Decode").select_option(chosen)
        page.get_by_role("button", name="Save").click()
        expect(page.get_by_role("dialog")).to_have_count(0)
        assert house.registry.get("bikes").packet_gate == kept


def test_a_form_outlasts_the_first_cameras_coming(page: Page, house: House) -> None:
    page.route("**/api/v1/cameras", lambda route: route.fulfill(json={"cameras": [], "kinds": []}))
    page.goto("/?page=cameras&edit=%2B")
    expect(page.get_by_text("No camera yet")).to_be_attached()
    page.get_by_label("Name").fill("yard")
    page.unroute("**/api/v1/cameras")
    expect(page.locator(".row", has_text="bikes")).to_be_attached()
    expect(page.get_by_label("Name")).to_have_value("yard")


def test_an_address_is_never_shown_with_its_password(page: Page, house: House) -> None:
    secret = f"rtsp://boss:{SECRET}@127.0.0.1:9/stream?pwd={SECRET}"
    house.registry.change("bikes", lambda one: Camera(one.name, secret))
    page.goto("/?page=cameras&edit=bikes")
    expect(page.get_by_label("Address")).to_have_attribute("placeholder", "rtsp://127.0.0.1:9/stream")
    page.get_by_role("button", name="Take a test picture").click()
    expect(page.get_by_role("alert")).to_contain_text("No camera answers at rtsp://127.0.0.1:9/stream")
    assert SECRET not in page.content()
    page.get_by_label("Pictures a second").fill("2")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert house.registry.get("bikes").url == secret


def test_who_may_only_see_is_offered_no_change(page: Page, house: House) -> None:
    house.role = Role.VIEWER
    assert isinstance(house.manage, InProcess)
    page.goto("/?page=cameras&edit=bikes")
    expect(page.locator(".row", has_text="bikes")).to_be_visible()
    page.wait_for_load_state("networkidle")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("link", name="Change")).to_have_count(0)
    expect(page.get_by_role("button", name="Add a camera")).to_have_count(0)


def test_what_is_new_is_told_as_it_comes(page: Page, house: House) -> None:
    page.goto("/?page=live")
    expect(page.locator(".cameras .card", has_text="bikes")).to_be_visible()
    house.registry.add(Camera("yard", str(CLIPS["bikes"]), groups=("outside",)))
    yard = page.locator(".cameras .card", has_text="yard")
    expect(yard.locator(".badge")).to_have_text("new")
    page.get_by_role("button", name="outside").click()
    expect(page.locator(".cameras .card")).to_have_count(1)
    house.registry.remove("yard")
    expect(yard).to_have_count(0)


def test_an_empty_house_is_one_click_from_its_first_camera_and_from_the_demo(page: Page, house: House) -> None:
    page.route("**/api/v1/cameras", lambda route: route.fulfill(json={"cameras": [], "kinds": []}))
    page.goto("/")
    page.get_by_role("button", name="Add a camera").click()
    expect(page.get_by_role("dialog", name="Add a camera")).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Watch the demo clips").click()
    page.unroute("**/api/v1/cameras")
    expect(page.locator(".row", has_text="film")).to_be_visible()
    assert [one.name for one in house.added] == ["film"]


def test_a_token_is_made_shown_once_and_revoked_and_a_camera_is_erased(page: Page, house: House) -> None:
    house.registry.change("meadow", lambda one: replace(one, groups=("outside", "inside")))
    page.goto("/?page=system")
    page.get_by_role("button", name="New token").click()
    dialog = page.get_by_role("dialog", name="New token")
    dialog.get_by_label("Name").fill("guard")
    dialog.get_by_role("textbox", name=re.compile("^Cameras")).fill("bikes")
    dialog.get_by_label("Groups").fill("nowhere")
    dialog.get_by_role("button", name="Create").click()
    expect(dialog.get_by_role("alert")).to_contain_text("nowhere")
    dialog.get_by_label("Groups").fill("outside, inside")
    dialog.get_by_role("button", name="Create").click()
    expect(page.get_by_text("it is not shown again")).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("guard"))).to_contain_text("inside, outside")
    expect(page.locator(".command code", has_text=re.compile("^ww_"))).to_be_visible()
    page.get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog", name="Revoke guard?").get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("cell", name="over")).to_be_visible()
    page.locator(".inline-form select").select_option("bikes")
    page.get_by_label("Reason").fill("a request")
    page.get_by_role("button", name="Erase", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Erase").click()
    expect(page.get_by_role("cell", name="a request")).to_be_visible()
    with page.expect_download() as saving:
        page.get_by_role("button", name="Save the receipt").click()
    assert re.fullmatch(r"erasure-\d+\.json", saving.value.suggested_filename)
    page.get_by_role("button", name="Verify it").click()
    expect(page.get_by_role("alert").filter(has_text="There is no audit here")).to_be_visible()
