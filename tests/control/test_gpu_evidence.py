from __future__ import annotations

from exporters.readings import GpuReading
from service.control.gpu_evidence import faults


def test_an_xid_of_long_ago_is_no_fault_of_a_card_that_answers() -> None:
    assert faults(GpuReading(index=0, uuid="x", xid_events={79: 3})) == []


def test_of_late_ones_those_are_after_which_a_card_is_not_to_be_relied_on() -> None:
    reading = GpuReading(index=0, uuid="x", xid_events={79: 1, 13: 9}, recent_xids=(79, 13))

    assert faults(reading) == ["Xid 79, fallen off the bus"]
