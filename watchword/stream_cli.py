"""Commands for the broker's topics and for dead letters."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from watchword.settings import Front, Settings

if TYPE_CHECKING:
    from broker.letterbox import Choice
    from broker.settings import KafkaSettings
    from broker.topics import ExistingTopic, TopicChange


def _kafka(settings: Settings) -> KafkaSettings:
    """The broker in the settings, else that of the stack on the data folder."""
    from watchword.stack import needed_stack

    if settings.kafka.brokers:
        return settings.kafka
    stack = needed_stack(settings.data_dir, "a broker: --set kafka.brokers=HOST:PORT")
    return settings.kafka.model_copy(update={"brokers": stack.addresses.broker})


@click.group("dead-letters")
def dead_letters() -> None:
    """Show, replay or drop frames that could not be processed."""


_reason = click.option("--reason", "reasons", multiple=True, help="Only letters with this reason. Repeatable.")
_camera = click.option(
    "--camera", "-c", "cameras", multiple=True, metavar="NAME", help="Only this camera's letters. Repeatable."
)


def _choice(reasons: tuple[str, ...], cameras: tuple[str, ...]) -> Choice:
    from broker.letterbox import Choice

    return Choice(frozenset(reasons), frozenset(cameras))


@dead_letters.command("list")
@_reason
@_camera
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.pass_obj
def letters_list(front: Front, reasons: tuple[str, ...], cameras: tuple[str, ...], as_json: bool) -> None:
    """Show dead letters and their reasons, oldest first."""
    from broker.letterbox import list_letters
    from watchword.times import local

    letters = asyncio.run(list_letters(_kafka(front.settings()), _choice(reasons, cameras)))
    if as_json:
        click.echo(json.dumps([asdict(letter) for letter in letters]))
        return
    for one in letters:
        what = f"{one.size:,} bytes" if one.size else "not kept"
        who = f" {one.camera}" if one.camera else ""
        click.echo(f"{local(one.failed_ms)}  {one.reason:<12}  {one.key}{who}  {what}  {one.detail}")
    click.echo(f"{len(letters)} letters" if letters else "no dead letters")


@dead_letters.command("replay")
@_reason
@_camera
@click.pass_obj
def letters_replay(front: Front, reasons: tuple[str, ...], cameras: tuple[str, ...]) -> None:
    """Send the records to their topics again, after the cause was fixed.

    They arrive after newer frames of their camera, so its open moment is cut in two.
    """
    from broker.letterbox import replay_letters

    done = asyncio.run(replay_letters(_kafka(front.settings()), _choice(reasons, cameras)))
    click.echo(f"sent {done.sent} records again")
    if done.without_record:
        click.echo(f"{done.without_record} letters hold no record and stay; `watchword dead-letters drop` takes them")


@dead_letters.command("drop")
@_reason
@_camera
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def letters_drop(front: Front, reasons: tuple[str, ...], cameras: tuple[str, ...], yes: bool) -> None:
    """Delete dead letters permanently."""
    from broker.letterbox import drop_letters

    if not yes:
        click.confirm("Drop these dead letters for good?", abort=True)
    click.echo(f"dropped {asyncio.run(drop_letters(_kafka(front.settings()), _choice(reasons, cameras)))} letters")


@click.group("topics")
def topics() -> None:
    """Compare the broker's topics with the settings."""


@topics.command("plan")
@click.pass_obj
def topics_plan(front: Front) -> None:
    """Show what `apply` would change."""
    _shown_plan(_kafka(front.settings()))


@topics.command("apply")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def topics_apply(front: Front, yes: bool) -> None:
    """Make the changes that `plan` shows."""
    from broker.kafka import apply_changes

    kafka = _kafka(front.settings())
    changes = [change for change in _shown_plan(kafka) if change.kind != "cannot"]
    if not changes:
        return
    if not yes:
        click.confirm("Make these changes?", abort=True)
    asyncio.run(apply_changes(kafka, changes))
    click.echo("done")


def _shown_plan(kafka: KafkaSettings) -> list[TopicChange]:
    from broker.kafka import find_topics
    from broker.topics import plan, wanted_topics

    wanted = wanted_topics(kafka)
    found = asyncio.run(find_topics(kafka))
    for topic in wanted:
        click.echo(f"{topic.name}: {_as_it_is(found.get(topic.name))}")
    changes = plan(wanted, found)
    for change in changes:
        click.echo(f"  {'cannot: ' if change.kind == 'cannot' else ''}{change.topic.name}: {change.what}")
    if not changes:
        click.echo("nothing to change")
    return changes


def _as_it_is(found: ExistingTopic | None) -> str:
    if found is None:
        return "not there"
    hours = int(found.config.get("retention.ms", "0")) / 3_600_000
    return (
        f"{found.partitions} partitions, {found.replication} copies, "
        f"kept {'for ever' if hours < 0 else f'{hours:g} h'}, {found.config.get('cleanup.policy', 'unknown')}, "
        f"records up to {int(found.config.get('max.message.bytes', '0')):,} bytes"
    )
