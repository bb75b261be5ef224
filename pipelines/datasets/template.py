"""Example tables for a data set of one's own: what `videodistill data template` writes."""

from pathlib import Path
from typing import Final

from cache_schema.errors import InputError
from cache_schema.storage.durable_files import create_file

FILES: Final = {
    "clips.csv": """\
clip_id,path,start_s,end_s
kitchen,videos/kitchen.mp4,,
kitchen-door,videos/kitchen.mp4,12.5,20
street,videos/street.mp4,,
""",
    "questions.csv": """\
question_id,clip_id,question,answer,split,candidates,clip_ids,tags
q1,kitchen,what does the man cut?,bread,train,,,"[""type:what""]"
q2,street,how many dogs are there?,two,val,,,"[""type:how""]"
q3,kitchen-door,who opens the door?,a girl,test,"[""a girl"", ""a boy"", ""nobody""]",,"[""type:who""]"
q4,kitchen,a dog crosses the road,street,test,,"[""kitchen"", ""street""]","[""type:which-clip""]"
""",
    "captions.csv": """\
caption_id,clip_id,text,split
c1,kitchen,a man cuts bread in a kitchen,train
c2,street,a dog crosses the road,test
""",
}
"""Three clips of two videos; a question in words, one with candidates, one that chooses a clip."""


def write_template(folder: Path) -> list[Path]:
    """Writes the example tables.

    Returns:
        The files written.

    Raises:
        InputError: one of them is there already; nothing is written then.
    """
    paths = [folder / name for name in FILES]
    if taken := [path for path in paths if path.exists()]:
        raise InputError(f"{taken[0]} is there already; examples are written into an empty folder.")
    folder.mkdir(parents=True, exist_ok=True)
    for path in paths:
        create_file(path, FILES[path.name].encode())
    return paths
