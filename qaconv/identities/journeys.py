"""Stand-in of the branch `jou`."""

import numpy as np
import pandas as pd

GAP_S = 300.0


def list_visits(table: pd.DataFrame) -> pd.DataFrame:
    """List visits: sightings of one identity on one camera without a longer gap than GAP_S."""
    table = table.sort_values(["identity", "time_s", "camid"], kind="stable")
    new = (
        (table["identity"] != table["identity"].shift())
        | (table["camid"] != table["camid"].shift())
        | (table["time_s"].diff() > GAP_S)
    )
    table = table.assign(part=new.cumsum())
    groups = table.groupby("part", sort=True)
    visits = groups.agg(
        identity=("identity", "first"), camid=("camid", "first"), from_s=("time_s", "min"), to_s=("time_s", "max"),
        sightings=("image", "size"),
    )  # fmt: skip
    best = table.loc[groups["probability"].idxmax().to_numpy(), "image"].to_numpy()
    visits["image"] = best
    visits.insert(1, "visit", visits.groupby("identity").cumcount().astype(np.int64))
    return visits.reset_index(drop=True)
