"""Clicks by segment out of tables and labels."""

import pytest

from CTSAM3DLib.clicks.click import Click
from CTSAM3DLib.clicks.tables import clicks_of_rows, read_table
from CTSAM3DLib.errors import ClickError


def table(tmp_path, text, name="clicks.csv"):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_columns_say_the_coordinate_system(tmp_path):
    ras = read_table(table(tmp_path, "segment,r,a,s,sign\nliver,10,20,30,+\nkidney,1,2,3,\nliver,4,5,6,-\n"))
    lps = read_table(table(tmp_path, "\ufeffL,P,S,Segment\n-10,-20,30,liver\n"))
    assert ras == {
        "liver": [Click((-10, -20, 30)), Click((-4, -5, 6), positive=False)],
        "kidney": [Click((-1, -2, 3))],
    }
    assert lps == {"liver": [Click((-10, -20, 30))]}


def test_tabs_part_columns_too(tmp_path):
    assert list(read_table(table(tmp_path, "segment\tr\ta\ts\nlung, left\t1\t2\t3\n"))) == ["lung, left"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no row"),
        ("segment,r,a,s\n", "no row"),
        ("segment,x,y,z\nliver,1,2,3\n", "no position"),
        ("segment,r,a,s\n,1,2,3\n", "names no segment"),
        ("segment,r,a,s\nliver,1,two,3\n", "Row 1 .* no position"),
        ("segment,r,a,s\nliver,1,2\n", "Row 1 .* no position"),
        ("segment,r,a,s,sign\nliver,1,2,3,maybe\n", "the sign 'maybe'"),
        ("segment,r,a,s\nliver,1,2,nan\n", "not finite"),
        (b"\xfasegment\x00\xff", "not a table of text"),
    ],
)
def test_wrong_tables_are_refused_in_one_sentence(tmp_path, text, reason):
    path = table(tmp_path, text)
    with pytest.raises(ClickError, match=reason) as refusal:
        read_table(path)
    assert str(path) in str(refusal.value)


def test_a_missing_table_is_said(tmp_path):
    with pytest.raises(ClickError, match="cannot be read"):
        read_table(tmp_path / "none.csv")


def test_more_cells_than_columns_are_passed_over(tmp_path):
    assert read_table(table(tmp_path, "segment,r,a,s\nliver,1,2,3,4,5\n")) == {"liver": [Click((-1, -2, 3))]}


def test_semicolons_and_decimal_commas(tmp_path):
    path = table(tmp_path, "segment;l;p;s\nliver;1,5;-2;3,25\n")
    assert read_table(path) == {"liver": [Click((1.5, -2, 3.25))]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_names_in_any_script_and_encoding(tmp_path, encoding):
    (tmp_path / "clicks.tsv").write_bytes("segment\tl\tp\ts\n肝臓\t1\t2\t3\n".encode(encoding))
    assert read_table(tmp_path / "clicks.tsv") == {"肝臓": [Click((1, 2, 3))]}


def test_rows_need_not_be_of_a_file():
    assert clicks_of_rows([{"segment": "a", "l": "1", "p": "2", "s": "3"}]) == {"a": [Click((1, 2, 3))]}
