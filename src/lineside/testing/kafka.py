"""Contract suite of the Kafka link: fixture ``place`` names a cluster that makes topics by itself.

Waits are on conditions with deadlines far above what a working cluster needs.
"""

import uuid
from collections.abc import Iterator

import pytest

from lineside.links.kafka import (
    KafkaPlace,
    KafkaReceiver,
    KafkaRecord,
    KafkaSender,
    ReceivedRecord,
    probe_kafka,
)

_TURNS = 600
_TURN_S = 0.2


class Group:
    """Members of one consumer group over a topic of its own."""

    def __init__(self, place: KafkaPlace) -> None:
        self._place = place
        self.topic = f"lineside-test-{uuid.uuid4().hex}"
        self.members: list[KafkaReceiver] = []

    def join(self) -> KafkaReceiver:
        """A further member."""
        member = KafkaReceiver(
            self._place, topics=[self.topic], group=f"{self.topic}-group",
            client_id=f"member-{len(self.members)}",
        )  # fmt: skip
        self.members.append(member)
        return member


def received(receiver: KafkaReceiver, count: int) -> list[ReceivedRecord]:
    """The next ``count`` records, fewer when they do not come."""
    arrived: list[ReceivedRecord] = []
    for _ in range(_TURNS):
        if len(arrived) >= count:
            break
        arrived += receiver.take(most=count - len(arrived), timeout_s=_TURN_S)
    return arrived


class KafkaContract:
    """Contract suite of Kafka's sender and receiver with a cluster."""

    @pytest.fixture
    def sender(self, place: KafkaPlace) -> Iterator[KafkaSender]:
        made = KafkaSender(place, client_id="contract")
        yield made
        made.close()

    @pytest.fixture
    def group(self, place: KafkaPlace) -> Iterator[Group]:
        made = Group(place)
        yield made
        for member in made.members:
            member.close()

    def test_brokers_answer(self, place: KafkaPlace) -> None:
        assert probe_kafka(place) >= 1

    def test_records_arrive_unchanged_and_in_the_order_of_their_key(
        self, sender: KafkaSender, group: Group
    ) -> None:
        values = [b"\x00%d\xff" % number for number in range(60)]
        headers = (("ce_id", b"evt_1"), ("empty", b""))
        records = [
            KafkaRecord(
                topic=group.topic, value=value, key=b"key %d" % (place % 3), headers=headers
            )
            for place, value in enumerate(values)
        ]
        assert sender.send(records) == []
        arrived = received(group.join(), len(values))
        assert sorted(one.value or b"" for one in arrived) == sorted(values)
        for key in (b"key 0", b"key 1", b"key 2"):
            wanted = [one.value for one in records if one.key == key]
            assert [one.value for one in arrived if one.key == key] == wanted
        assert {one.headers for one in arrived} == {headers}
        assert len({one.place for one in arrived}) == len(values)
        assert all(one.at.year > 2000 and one.at.tzinfo for one in arrived)

    def test_what_was_not_committed_comes_again_to_the_group(
        self, sender: KafkaSender, group: Group
    ) -> None:
        sender.send([KafkaRecord(topic=group.topic, value=b"%d" % n, key=b"k") for n in range(4)])
        first = group.join()
        arrived = received(first, 4)
        assert first.commit(arrived[:3])
        first.close()
        assert [one.value for one in received(group.join(), 1)] == [b"3"]

    def test_members_of_a_group_share_the_work(self, sender: KafkaSender, group: Group) -> None:
        keys = [b"key %d" % number for number in range(40)]
        sender.send([KafkaRecord(topic=group.topic, value=key, key=key) for key in keys])
        members = [group.join(), group.join()]
        heard: list[list[bytes]] = [[], []]
        for _ in range(_TURNS):
            for member, said in zip(members, heard, strict=True):
                arrived = member.take(most=100, timeout_s=_TURN_S / 2)
                said += [one.key or b"" for one in arrived]
                member.commit(arrived)
            if len({*heard[0], *heard[1]}) == len(keys):
                if all(heard):
                    break
                fresh = [b"key %d" % (len(keys) + number) for number in range(40)]
                sender.send([KafkaRecord(topic=group.topic, value=key, key=key) for key in fresh])
                keys += fresh  # one of them joined when all was read
        assert {*heard[0], *heard[1]} == set(keys)
        assert not {*heard[0]} & {*heard[1]}
        assert all(heard)

    def test_a_member_that_leaves_hands_its_keys_on_and_nothing_is_left_out(
        self, sender: KafkaSender, group: Group
    ) -> None:
        keys = [b"key %d" % number for number in range(40)]

        def send(message: bytes) -> None:
            sender.send([KafkaRecord(topic=group.topic, value=message, key=key) for key in keys])

        send(b"first")
        members, heard = [group.join(), group.join()], list[ReceivedRecord]()
        shared: list[set[bytes]] = [set(), set()]
        for _ in range(2 * _TURNS):
            for place, member in enumerate(members):
                arrived = member.take(most=100, timeout_s=_TURN_S / 2)
                shared[place] |= {one.key or b"" for one in arrived}
                heard += arrived
                member.commit(arrived)  # in vain while the group is sharing out anew
            once = {one.place: one for one in heard}
            if len(members) == 2 and all(shared) and len(once) == len(keys):
                send(b"second")
                members.pop().close()
            if len(once) == 2 * len(keys):
                break
        assert all(shared)
        for key in keys:
            values = [one.value for one in heard if one.key == key]
            assert list(dict.fromkeys(values)) == [b"first", b"second"]

    def test_a_member_commits_nothing_of_a_partition_that_another_has_now(
        self, sender: KafkaSender, group: Group
    ) -> None:
        keys = [b"key %d" % number for number in range(40)]

        def send(value: bytes) -> None:
            sender.send([KafkaRecord(topic=group.topic, value=value, key=key) for key in keys])

        send(b"first")
        slow = group.join()
        late = received(slow, len(keys))
        send(b"second")
        other, committed = group.join(), list[ReceivedRecord]()
        for _ in range(_TURNS):
            slow.pause(timeout_s=_TURN_S / 2)
            committed += other.take(most=100, timeout_s=_TURN_S / 2)
            if committed and len(committed) == 2 * len({one.key for one in committed}):
                break
        assert other.commit(committed)
        assert not slow.commit(late)
        slow.close()
        other.close()
        send(b"third")
        last, again = group.join(), list[ReceivedRecord]()
        for _ in range(_TURNS):
            again += last.take(most=100, timeout_s=_TURN_S)
            if len({one.key for one in again if one.value == b"third"}) == len(keys):
                break
        else:
            pytest.fail("the third ones did not come")
        assert not {one.place for one in committed} & {one.place for one in again}

    def test_a_paused_receiver_takes_nothing_and_stays_a_member(
        self, sender: KafkaSender, group: Group
    ) -> None:
        sender.send([KafkaRecord(topic=group.topic, value=b"before", key=b"k")])
        receiver = group.join()
        before = received(receiver, 1)
        receiver.pause(timeout_s=_TURN_S)
        sender.send([KafkaRecord(topic=group.topic, value=b"after", key=b"k")])
        for _ in range(5):
            receiver.pause(timeout_s=_TURN_S)
        receiver.resume()
        assert [one.value for one in received(receiver, 1)] == [b"after"]
        assert receiver.commit(before)

    def test_a_record_that_is_too_large_is_refused_alone(
        self, sender: KafkaSender, group: Group
    ) -> None:
        records = [
            KafkaRecord(topic=group.topic, value=value) for value in (b"a", b"x" * 3_000_000)
        ]
        (refusal,) = sender.send(records)
        assert refusal.index == 1
        assert sender.send(records[:1]) == []
