"""Whether a short replay, which none of the three can fail, is told as it was; called by scripts/test.sh."""

import json
import os
import sys
import xml.etree.ElementTree


def main(folder):
    with open(os.path.join(folder, "replay.json"), encoding="utf-8") as file:
        results = json.load(file)
    (crowd,) = results["crowds"]
    arrived = {day["arrived"] for day in crowd["days"].values()}
    assert len(arrived) == 1 and arrived.pop() > 20, "the crowd is not the same for all"
    for name, day in crowd["days"].items():
        told = {key: day[key] for key in ("served", "gave_up", "refused", "broken", "reloads")}
        assert told == {"served": day["arrived"], "gave_up": 0, "refused": 0, "broken": 0, "reloads": 0}, (name, told)
        seconds = day["seconds"]
        assert sum(second["served_of_arrived"] for second in seconds) == day["served"], name
        assert day["statuses"] == {"200": 2 * day["served"]}, (name, day["statuses"])
        sent = sum(second["wire_bits"] for second in seconds) / 8 / day["served"]
        least = day["page_bytes"] + day["refresh_bytes"]
        # What the line has carried is what was answered, with the headers of its packets.
        assert least < sent < 1.25 * least + 1_000, (name, sent, least)
        assert all(second["wire_bits"] <= 1.05 * results["rate_bits_per_s"] for second in seconds), name
        assert sum(second["server_cpu"] for second in seconds) > 0, name
    xml.etree.ElementTree.parse(os.path.join(folder, "replay.svg"))
    assert os.path.getsize(os.path.join(folder, "replay.html")) > 10_000
    print(f"replay: {', '.join(crowd['days'])}: all {day['arrived']} served")


if __name__ == "__main__":
    main(sys.argv[1])
