"""The graph as a fold over the log: one event after the other, from what was known to what is known then. Pure.

The outcome depends on the order of the events alone and not on the batches in which they come, so a rebuild gives the same rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from lineage.events import Kind
from lineage.names import Key, Name, dataset_key, file_key, item_key, product_key, read, stem_of
from lineage.projected import Edge, Entity, Fact, ItemVersion, Located, Place, Run, State
from lineage.rules import INFERRED, INPUT, R1, R2, REVISION_OF, ROLES, STRENGTH, V1, Rule, inferred_parent

_STATUS = {Kind.OBSOLETE: "superseded", Kind.WITHDRAW: "withdrawn", Kind.DELETE: "deleted"}
_GONE = frozenset({Kind.WITHDRAW, Kind.DELETE})
#: By these a source says that it has the product of this name.
_NAMED = frozenset({Kind.REGISTER, Kind.COPY})
#: Members of a body that make edges and runs.
_LINKING = frozenset({"inputs", "derivations", "predecessor", "successor", "run"})
#: These say nothing of an item's presence.
_ASIDE = frozenset({Kind.VERIFY, Kind.CORRECT})
_OWN = "own"
#: Parents of one child that hold at a time; more are not taken in.
MOST_PARENTS = 10_000
#: The same of what documents of other items tell: they leave room for what its own events tell.
MOST_TOLD_BY_OTHERS = 1000


def fold(state: State, facts: Iterable[Fact]) -> None:
    """Take events, in the order of their numbers, into the state."""
    for fact in facts:
        if fact.collection is not None and fact.item is not None:
            _item_fact(state, fact, (fact.collection, fact.item))
        elif isinstance(fact.body.get("run"), dict):
            _run_fact(state, fact)


def subject_id(fact: Fact, place: Place, located: Located | None) -> Key:
    """The entity that an item's event is about."""
    if fact.source != _OWN and fact.kind in _NAMED:
        return product_key(fact.name)
    if located is not None:
        return located.entity
    return item_key(*place) if fact.source == _OWN else product_key(fact.name)


def _item_fact(state: State, fact: Fact, place: Place) -> None:
    located = state.places.get(place)
    subject = subject_id(fact, place, located)
    is_product = fact.source != _OWN if located is None else _kind_of(state, subject) != "item"
    entity = state.entities.get(subject)
    if entity is None:
        name = stem_of(fact.name) if is_product else place[1]
        entity = _entity(state, subject, "product" if is_product else "item", name, fact.seq)
    _locate(state, fact, place, located, subject)
    if fact.kind == Kind.CREATE and fact.source == _OWN and entity.owner is None and not is_product:
        entity.owner = fact.actor
        state.touched_entities[subject] = entity
    _version(state, fact, place)
    if fact.kind == Kind.OBSOLETE and isinstance(fact.body.get("formerly"), str):
        _move_edges(state, fact, item_key(place[0], fact.body["formerly"]), subject)
    if not _LINKING.isdisjoint(fact.body):
        _link_told(state, fact, subject, place)
        if isinstance(fact.body.get("run"), dict):
            _run_of(state, fact)
    if is_product and (located is None or located.entity != subject):
        _infer(state, entity, fact.seq)


def _kind_of(state: State, subject: Key) -> str:
    entity = state.entities.get(subject)
    return entity.kind if entity else "product"


def _entity(state: State, identity: Key, kind: str, name: str, seq: int, owner: str | None = None) -> Entity:
    entity = state.entities.get(identity)
    if entity is None:
        entity = state.entities[identity] = Entity(identity, kind, name, seq, None, owner)
        state.touched_entities[identity] = entity
    return entity


def _locate(state: State, fact: Fact, place: Place, located: Located | None, subject: Key) -> None:
    if located is None:
        located = state.places[place] = Located(subject, "current", None, fact.seq, fact.seq)
    elif located.entity != subject:
        located = Located(subject, "current", None, located.first_seq, fact.seq, located.is_stored)
        state.places[place] = located
    elif fact.kind in _ASIDE:
        return
    state.touched_places[place] = located
    told = fact.body.get("successor")
    successor = told if isinstance(told, str) else None
    if fact.kind in _STATUS:
        located.status, located.successor, located.status_seq = _STATUS[Kind(fact.kind)], successor, fact.seq
    elif fact.source != _OWN or fact.kind in (Kind.CREATE, Kind.REPLACE):
        status = "superseded" if successor else "current"
        if (status, successor) != (located.status, located.successor):
            located.status, located.successor, located.status_seq = status, successor, fact.seq


def _version(state: State, fact: Fact, place: Place) -> None:
    """A new version of an item, when its document changed or it came or went."""
    told = fact.body.get("item_sha256")
    is_gone = fact.kind in _GONE
    if fact.kind in _ASIDE or (told is None and not is_gone):
        return
    sha256 = None if is_gone else _digest(told)
    before = state.open_versions.get(place)
    if sha256 is None and not is_gone:
        return
    if before is not None and before.item_sha256 == sha256:
        return
    at = min(fact.at, fact.recorded_at)
    if before is not None:
        at = max(at, before.valid_from)
        before.to_seq, before.valid_to = fact.seq, at
    version = ItemVersion(before.version + 1 if before else 1, fact.kind, fact.seq, at, sha256)
    state.open_versions[place] = version
    state.versions.append((place, version))


def _digest(told: Any) -> str | None:
    try:
        found = bytes.fromhex(told)
    except (TypeError, ValueError):
        return None
    return found.hex() if len(found) == 32 else None


# --- edges that events tell


def parents_told(body: Mapping[str, Any]) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The entries of `inputs` that have a form; what has none is left out."""
    inputs = body.get("inputs")
    for number, entry in enumerate(inputs if isinstance(inputs, list) else ()):
        if isinstance(entry, dict):
            yield number, entry


def parent_id(entry: Mapping[str, Any], actor: str, *, is_file: bool) -> tuple[Key, str, str] | None:
    """(id, kind, name) of the entity that an entry of `inputs` names; None when it names nothing."""
    name, digest = str(entry.get("name") or ""), str(entry.get("hash") or "").lower()
    if isinstance(entry.get("collection"), str) and isinstance(entry.get("item"), str):
        return item_key(entry["collection"], entry["item"]), "item", entry["item"]
    if isinstance(entry.get("namespace"), str) and name:
        return dataset_key(entry["namespace"], name, actor), "dataset", f"{entry['namespace']}/{name}"
    if digest and (is_file or not name or name.startswith("sha256:")):
        algorithm = str(entry.get("alg") or "SHA256")
        return file_key(algorithm, digest), "file", f"{algorithm.lower()}:{digest}"
    stem = stem_of(name)
    return (product_key(stem), "product", stem) if stem and not is_file else None


def is_original(number: int, entry: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
    """The first input of an upload's item is the file as it was sent."""
    return entry.get("role") == "original" or (number == 0 and "upload" in body and "role" not in entry)


def _link_told(state: State, fact: Fact, child: Key, place: Place) -> None:
    run = _uuid(fact.body["run"].get("id")) if isinstance(fact.body.get("run"), dict) else None
    for number, entry in parents_told(fact.body):
        _link_entry(state, fact, child, number, entry, place, run)
    for entry in fact.body.get("derivations") or ():  # what a manifest tells of the product's ancestors
        if isinstance(entry, dict) and isinstance(entry.get("child"), str):
            grandchild = _entity(state, product_key(entry["child"]), "product", stem_of(entry["child"]), fact.seq)
            _link_entry(state, fact, grandchild.id, -1, entry, place, None)
    predecessor = fact.body.get("predecessor")
    if isinstance(predecessor, str):
        older = state.places.get((place[0], predecessor))
        parent = older.entity if older else item_key(place[0], predecessor)
        _entity(state, parent, "item", predecessor, fact.seq)
        _link(
            state,
            Edge(child, parent, REVISION_OF, R1.assertion, R1.confidence, R1.id, fact.seq, None, None, None, *place),
        )
    successor = fact.body.get("successor")
    if isinstance(successor, str) and fact.source != _OWN:
        newer = product_key(successor)
        _entity(state, newer, "product", stem_of(successor), fact.seq)
        if newer != child:
            _link(
                state,
                Edge(newer, child, REVISION_OF, V1.assertion, V1.confidence, V1.id, fact.seq, None, None, None, *place),
            )


def _link_entry(
    state: State, fact: Fact, child: Key, number: int, entry: Mapping[str, Any], place: Place | None, run: Key | None
) -> None:
    told = place or (None, None)
    rule = _rule_of(entry)
    role = str(entry["role"]) if entry.get("role") in ROLES else INPUT
    if isinstance(entry.get("commitment"), str):
        for parent in state.commitments.get(entry["commitment"], ()):
            _link(
                state,
                Edge(child, parent, role, rule.assertion, rule.confidence, rule.id, fact.seq, None, run, None, *told),
            )
        return
    is_file = is_original(number, entry, fact.body)
    named = parent_id(entry, fact.actor, is_file=is_file)
    if named is None:
        return
    identity, kind, name = named
    if kind == "item" and (located := state.places.get((entry["collection"], entry["item"]))):
        identity = located.entity
    if identity == child:
        return
    _entity(state, identity, kind, name, fact.seq, fact.actor if kind == "dataset" else None)
    label = str(entry["name"])[:500] if kind == "file" and entry.get("name") else None
    edge = Edge(child, identity, role, rule.assertion, rule.confidence, rule.id, fact.seq, None, run, label, *told)
    edge.by_name = kind == "product"
    _link(state, edge)


def _rule_of(entry: Mapping[str, Any]) -> Rule:
    """The rule that an entry says, else by whether it has a hash."""
    told, assertion, confidence = entry.get("rule"), entry.get("assertion"), entry.get("confidence")
    if isinstance(told, str) and assertion in STRENGTH and isinstance(confidence, int | float) and 0 <= confidence <= 1:
        return Rule(told[:40], str(assertion), float(confidence))
    return R1 if entry.get("hash") else R2


def _link(state: State, edge: Edge) -> None:
    """Let an edge hold from now on, unless one as strong does; what is inferred gives way to what is told."""
    holding, key = state.edges[edge.child], (edge.child, edge.parent, edge.role, edge.seq)
    if not holding and key not in state.touched_edges:
        holding.append(edge)
        state.touched_edges[key] = edge
        return
    is_own = _is_of_itself(state, edge)
    if len(holding) >= (MOST_PARENTS if is_own else MOST_TOLD_BY_OTHERS):
        return
    same = [one for one in holding if one.parent == edge.parent and one.role == edge.role]
    rivals = [one for one in same if not is_own or _is_of_itself(state, one)]
    if any(STRENGTH[one.assertion] >= STRENGTH[edge.assertion] and one.confidence >= edge.confidence for one in rivals):
        return  # before any is ended: in which order they are held depends on where they were read
    replaced = rivals if edge.assertion == INFERRED else same
    for one in list(holding) if is_own else ():
        gives_way = one.assertion == INFERRED != edge.assertion and one.role == edge.role == INPUT
        if one in replaced or gives_way:
            _end(state, one, edge.seq)
    if key not in state.touched_edges:
        holding.append(edge)
        state.touched_edges[key] = edge


def _is_of_itself(state: State, edge: Edge) -> bool:
    """Whether a product's own events, or names alone, tell the edge.

    What another item's document says of it stands beside that, and ends nothing: whoever writes first could else say where a product
    comes from that the catalogue gets later, or let an item that few may see hide it.
    """
    if edge.told_in is None or edge.told_of is None:
        return True
    located = state.places.get((edge.told_in, edge.told_of))
    return located is not None and located.entity == edge.child


def _end(state: State, edge: Edge, seq: int) -> None:
    if edge.seq == seq:  # of the same event: it never held
        state.touched_edges.pop((edge.child, edge.parent, edge.role, edge.seq), None)
    else:
        edge.superseded_by = seq
        state.touched_edges[edge.child, edge.parent, edge.role, edge.seq] = edge
    state.edges[edge.child].remove(edge)


def _move_edges(state: State, fact: Fact, formerly: Key, now: Key) -> None:
    """An item goes on under another id, as an older version: its parents go with it."""
    if formerly == now:
        return
    # The strong ones first: what is inferred and held beside them goes on to be.
    edges = sorted(state.edges[formerly], key=lambda one: (-STRENGTH[one.assertion], one.seq, one.parent, one.role))
    for edge in edges:
        if edge.role == REVISION_OF and edge.parent == now:
            continue
        _end(state, edge, fact.seq)
        moved = Edge(
            now, edge.parent, edge.role, edge.assertion, edge.confidence, edge.rule, fact.seq, None, edge.run, edge.label,
            fact.collection, fact.item, edge.by_name,
        )  # fmt: skip
        _link(state, moved)


# --- edges that names tell


def _infer(state: State, entity: Entity, seq: int) -> None:
    """A product came: who of its family is whose parent now."""
    name = read(entity.name)
    if name is None:
        return
    if entity.family is None:
        entity.family = name.family
        state.touched_entities[entity.id] = entity
    members = state.families[name.family]
    members[name.stem] = name
    if len(members) == 1:
        _infer_one(state, name, [name], seq)
        return
    everyone = [members[stem] for stem in sorted(members)]
    for child in everyone:
        if child.stem == name.stem or _may_be_parent(name, child):
            _infer_one(state, child, everyone, seq)


def _may_be_parent(name: Name, child: Name) -> bool:
    """Whether a product that came can change what is inferred for another."""
    return name.level != child.level or (child.is_cog and name.twin == child.twin)


def _infer_one(state: State, child: Name, members: Sequence[Name], seq: int) -> None:
    found = inferred_parent(child, members)
    if found is None:
        return
    identity = product_key(child.stem)
    stem, role, rule = found
    edge = Edge(identity, product_key(stem), role, rule.assertion, rule.confidence, rule.id, seq)
    holding = state.edges[identity]
    if not holding:  # as nearly always
        _link(state, edge)
        return
    if any(one.role == INPUT and one.assertion != INFERRED and _is_of_itself(state, one) for one in holding):
        return
    inferred = [one for one in holding if one.assertion == INFERRED and one.rule.startswith("R")]
    if any((one.parent, one.role, one.rule) == (edge.parent, edge.role, edge.rule) for one in inferred):
        return
    for one in inferred:
        _end(state, one, seq)
    _link(state, edge)


# --- runs


def _run_fact(state: State, fact: Fact) -> None:
    """A run as it was told (OpenLineage); what it made and nobody holds here are datasets of its owner."""
    run = _run_of(state, fact)
    for _, entry in parents_told(fact.body):
        named = parent_id(entry, fact.actor, is_file=False)
        if named is not None and named[1] == "dataset":
            _entity(state, named[0], named[1], named[2], fact.seq, fact.actor)
    outputs = fact.body.get("outputs")
    if run is None or not isinstance(outputs, list):
        return
    for output in outputs:
        if not isinstance(output, dict) or not isinstance(output.get("namespace"), str):
            continue  # an item's own event tells its parents
        named = parent_id(output, fact.actor, is_file=False)
        if named is None:
            continue
        _entity(state, named[0], named[1], named[2], fact.seq, fact.actor)
        for number, entry in parents_told(fact.body):
            _link_entry(state, fact, named[0], number, entry, None, run.id)


def _run_of(state: State, fact: Fact) -> Run | None:
    told = fact.body["run"]
    identity = _uuid(told.get("id"))
    if identity is None:
        return None
    run = state.runs.get(identity)
    if run is None:
        run = state.runs[identity] = Run(
            identity, "", "", fact.actor, "", {}, {}, None, None, None, fact.seq, fact.seq
        )  # fmt: skip
    if run.owner != fact.actor:  # another's: what he says of it stays in his events
        return run
    state.touched_runs[identity] = run
    run.last_seq = fact.seq
    run.namespace, run.job = str(told.get("namespace") or run.namespace), str(told.get("job") or run.job)
    run.state = str(told.get("state") or run.state)
    run.software |= told.get("software") if isinstance(told.get("software"), dict) else {}
    run.params |= told.get("params") if isinstance(told.get("params"), dict) else {}
    run.facility = str(told["facility"]) if told.get("facility") else run.facility
    run.started, run.ended = _time(told.get("started")) or run.started, _time(told.get("ended")) or run.ended
    return run


def _uuid(text: Any) -> Key | None:
    try:
        return str(UUID(str(text)))
    except ValueError:
        return None


def _time(text: Any) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else None
