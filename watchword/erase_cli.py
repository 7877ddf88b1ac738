"""`watchword erase`: have something forgotten everywhere, and prove it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from proto.errors import Broken, Invalid, Transient, Unknown
from proto.life import Erasure, Rules, Stretch
from watchword.catalogs import open_catalog
from watchword.life_cli import check_camera, milvus_of, span_words, time_of
from watchword.settings import Front, Settings

if TYPE_CHECKING:
    from catalog.life import Life
    from catalog.store import Catalog
    from index.removal import Removal

_WORDS = {
    "index": "moments in the index",
    "pictures": "pictures without a moment",
    "coverage": "gaps in coverage",
    "backgrounds": "samples of backgrounds",
    "recordings": "fragments of recordings on this machine",
}


@click.command("erase")
@click.option("--camera", "-c", metavar="NAME", help="Erase what this camera saw.")
@click.option(
    "--from", "begins", metavar="TIME", help="30s, 10m, 2h, 7d ago, or 2026-05-01T10:00. Default: all before."
)
@click.option("--to", "ends", metavar="TIME", help="Same form as --from. Default: now.")
@click.option("--moment", metavar="MOMENT", help="Instead of camera and time: the moment_id of a hit.")
@click.option("--reason", default="", help="Why: it is kept with the erasure and stands in the receipt.")
@click.option("--dry-run", is_flag=True, help="Only count what there is.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--list", "listing", is_flag=True, help="Show what was erased, and how far that is.")
@click.option("--receipt", type=int, metavar="NUMBER", help="Write the signed receipt of this erasure.")
@click.option("--out", "-o", type=click.Path(path_type=Path), metavar="FILE", help="Where the receipt goes.")
@click.option("--verify", type=click.Path(path_type=Path), metavar="FILE", help="Ask every store again for a receipt.")
@click.pass_obj
def erase(
    front: Front,
    camera: str | None,
    begins: str | None,
    ends: str | None,
    moment: str | None,
    reason: str,
    dry_run: bool,
    yes: bool,
    listing: bool,
    receipt: int | None,
    out: Path | None,
    verify: Path | None,
) -> None:
    """Have a camera, a time of it, or a moment forgotten, for good.

    It is hidden from every answer at once, removed from every store in the background, and not stored again when the
    broker's frames are read again. A moment that touches the time goes as a whole. Holds win (`watchword hold list`).
    """
    settings = front.settings()
    wanted = [camera is not None, moment is not None, listing, receipt is not None, verify is not None]
    if sum(wanted) != 1 or (moment and (begins or ends)):
        raise Invalid("what to erase is not clear", todo="give --camera NAME, with --from and --to, or --moment MOMENT")
    with open_catalog(settings) as catalog:
        if listing:
            _list(catalog)
        elif receipt is not None:
            _write_receipt(settings, catalog, receipt, out)
        elif verify is not None:
            asyncio.run(_verify(settings, catalog, verify))
        else:
            stretch = asyncio.run(_wanted(settings, catalog, camera, begins, ends, moment))
            _erase(settings, catalog, stretch, moment or "", reason, dry_run=dry_run, yes=yes)


async def _wanted(
    settings: Settings, catalog: Catalog, camera: str | None, begins: str | None, ends: str | None, moment: str | None
) -> Stretch:
    """The time to erase."""
    from proto.types import now_ms

    now = now_ms()
    if camera is not None:
        check_camera(catalog, camera)
        stretch = time_of(begins, ends, camera, now, open_ended=False)
        if stretch.end_ms > now:
            raise Invalid("the time ends in the future", todo="erase what is there now, and later again")
        return stretch
    return await stored_time(settings, catalog, moment or "")


async def stored_time(settings: Settings, catalog: Catalog, moment: str) -> Stretch:
    """Camera and time of the moment, read from the index. Unknown when there is none."""
    from index.opening import new_removal
    from watchword.sharding import map_of_now

    milvus = milvus_of(settings)
    rows = new_removal(milvus, map_of_now(milvus, catalog))
    try:
        return await time_of_moment(rows, moment)
    finally:
        await rows.close()


async def time_of_moment(rows: Removal, moment: str) -> Stretch:
    """Camera and time of the moment. Unknown when there is none."""
    from index.filters import Filter
    from proto.types import check_moment_ids, start_of

    check_moment_ids([moment])
    start_ms = start_of(moment)
    which = Filter(starts_from=start_ms, starts_before=start_ms + 1)
    found = await rows.holdings()
    for holding in found.known:
        if holding.bucket.holds(start_ms):
            for row in await rows.rows(holding, which, 10_000):
                if row.moment == moment:
                    return Stretch(row.camera, row.start_ms, row.end_ms + 1)
    raise Unknown(f"there is no moment {moment}", todo="give the moment_id of a hit")


def _erase(
    settings: Settings, catalog: Catalog, stretch: Stretch, moment: str, reason: str, *, dry_run: bool, yes: bool
) -> None:
    from catalog.life import Life
    from proto.types import now_ms

    life = Life(catalog)
    rules = life.rules()
    click.echo(f"{stretch.camera}, {span_words(stretch)}:")
    try:
        _say(*asyncio.run(_counted(settings, catalog, rules, stretch)))
    except Transient as error:
        if dry_run:
            raise
        click.echo(f"  cannot be counted now: {error}", err=True)
    if dry_run:
        return
    if not yes:
        click.confirm("Erase this for good?", abort=True)
    erasure = life.erase(stretch, now_ms(), moment=moment, reason=reason)
    click.echo(
        f"erasure {erasure.number} is in force: hidden from now on, removed in the background; its receipt: "
        f"watchword erase --receipt {erasure.number}"
    )
    for one in _stays(settings, erasure):
        click.echo(f"  stays: {one['what']} {one['until_words']}")


async def _counted(settings: Settings, catalog: Catalog, rules: Rules, stretch: Stretch) -> tuple[dict[str, int], int]:
    """How much each store has of it, and how many moments a hold keeps."""
    from life.verifying import held, present
    from proto.types import now_ms
    from watchword.sweeping import asked_stores

    erased = rules.spared(Erasure(rules.version + 1, stretch, "", "", 0))
    at = asked_stores(settings, milvus_of(settings), catalog)
    try:
        return await present(at, erased, now_ms() - settings.retention.settle_s * 1000), await held(at, erased)
    finally:
        await at.rows.close()


def _say(found: dict[str, int], kept: int) -> None:
    for store, count in found.items():
        click.echo(f"  {count:>9,} {_WORDS[store]}")
    if kept:
        click.echo(f"  {kept:>9,} moments are held and stay: `watchword hold list` says why")


def _list(catalog: Catalog) -> None:
    from catalog.life import Life
    from watchword.times import local

    life = Life(catalog)
    erasures = life.rules().erasures
    for one in erasures:
        state = f"done {local(one.done_ms)}" if one.done_ms else "being carried out"
        why = f": {one.reason}" if one.reason else ""
        click.echo(f"{one.number}  {one.stretch.camera}, {span_words(one.stretch)}; {state}{why}")
    if not erasures:
        click.echo("nothing was erased")


def receipt_of(settings: Settings, catalog: Catalog, erasure: Erasure) -> str:
    """The signed receipt, as JSON."""
    from catalog.life import Life
    from life.receipts import RECEIPT, told_of
    from life.signing import Signer
    from proto.types import now_ms

    life = Life(catalog)
    stays = [{"what": one["what"], "until": one["until"]} for one in _stays(settings, erasure)]
    told = told_of(erasure, life.rules(), life.work(erasure.number), stays, now_ms())
    signer = Signer(life, settings.retention.signing_key.get_secret_value())
    return json.dumps(signer.signed(RECEIPT, told), indent=2)


def _write_receipt(settings: Settings, catalog: Catalog, number: int, out: Path | None) -> None:
    from catalog.life import Life

    erasure = Life(catalog).erasure(number)
    text = receipt_of(settings, catalog, erasure)
    if out is None:
        click.echo(text)
        return
    try:
        out.write_text(text + "\n")
    except OSError as error:
        raise Invalid(f"{out} cannot be written ({error.strerror})", todo="name another file with -o") from error
    state = "" if erasure.done_ms else "; it is not carried out everywhere yet, so get another one later"
    click.echo(f"{out}: receipt of erasure {number}{state}")


async def _verify(settings: Settings, catalog: Catalog, path: Path) -> None:
    from catalog.life import Life
    from life.receipts import RECEIPT
    from life.signing import Signer
    from life.verifying import present
    from proto.types import now_ms
    from watchword.sweeping import asked_stores

    life = Life(catalog)
    receipt = _read(path)
    Signer(life, settings.retention.signing_key.get_secret_value()).check(RECEIPT, receipt)
    erasure = life.erasure(int(receipt["number"]))
    _check_same(erasure, receipt)
    at = asked_stores(settings, milvus_of(settings), catalog)
    try:
        found = await present(at, life.rules().spared(erasure), now_ms() - settings.retention.settle_s * 1000)
    finally:
        await at.rows.close()
    _say(found, 0)
    left = {_WORDS[store]: count for store, count in found.items() if count}
    if left:
        what = ", ".join(f"{count:,} {words}" for words, count in left.items())
        if not erasure.done_ms:
            raise Transient(f"there are still {what}", todo="it is being carried out: try again in some minutes")
        raise Broken(f"there are {what}", todo="the sweeper removes them within the hour, if a stream process runs")
    _tell_others(life, erasure)
    for held in receipt.get("held", []):
        click.echo(f"  held, and there: hold {held['hold']}, {held['from']} to {held['to'] or 'no end'}")
    for one in receipt.get("stays", []):
        click.echo(f"  {one['what']} until {one['until'] or 'the stack stops'}")
    click.echo(f"erasure {erasure.number}: the receipt is genuine, and nothing of it is left in any store")


def _tell_others(life: Life, erasure: Erasure) -> None:
    for one in life.work(erasure.number):
        if one.store == "recordings":
            state = "removed" if one.done_ms else "being removed"
            click.echo(f"  recordings at {one.place}: {one.removed} fragments {state}")


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise Invalid(f"{path} cannot be read ({error})", todo="give the file of a receipt") from error
    if not isinstance(found, dict):
        raise Invalid(f"{path} is no receipt", todo="give the file that `watchword erase --receipt` wrote")
    return found


def _check_same(erasure: Erasure, receipt: dict[str, Any]) -> None:
    asked = receipt["asked"]
    if Stretch(asked["camera"], asked["from_ms"], asked["to_ms"]) != erasure.stretch:
        raise Broken(
            f"erasure {erasure.number} of this catalog is another one than the receipt's",
            todo="was the catalog restored from a backup? erase it again",
        )


def _stays(settings: Settings, erasure: Erasure) -> list[dict[str, str]]:
    """What cannot be erased at once, and until when it stays."""
    from broker.topics import wanted_topics
    from life.receipts import date
    from watchword.times import local

    frames, letters = wanted_topics(settings.kafka)
    kept_ms = int(frames.config["retention.ms"]) + int(frames.config["segment.ms"])
    until_ms = erasure.asked_ms + kept_ms
    letters_ms = erasure.asked_ms + int(letters.config["retention.ms"])
    what = "frames in the broker, which nobody stores again,"
    drop = f"`watchword dead-letters drop --camera {erasure.stretch.camera}` removes them"
    if settings.kafka.brokers:
        found = [(what, until_ms, f"until {local(until_ms)}")]
    else:
        found = [(what, 0, "until the stack is stopped: its broker keeps them in memory")]
    found.append(("dead letters of the camera, if there are any,", letters_ms, f"until {local(letters_ms)}: {drop}"))
    return [{"what": words, "until": date(until) if until else "", "until_words": told} for words, until, told in found]
