from hypothesis import given, strategies as st

from document_ingestion.html import parse_html


def read(html):
    parsed = parse_html(html)
    return parsed, [
        (section.headings, block.text()) for section in parsed.sections for block in section.blocks
    ]


PAGE = """<!doctype html>
<html><head><title> The
 Page </title><style>p { color: red }</style><script>var x = "<p>no</p>";</script></head>
<body>
<nav><ul><li>Home</li><li>About</li></ul></nav>
<header><h1>Welcome &amp; hello</h1></header>
<main>
  <p>First <b>bold</b> sentence. Second&nbsp;one.<br>Third.</p>
  <h2>Code</h2>
  <pre><code class="language-python">def f():
    return 1 &lt; 2
</code></pre>
  <h2>Data</h2>
  <table><caption>c</caption><thead><tr><th>name</th><th>value</th></tr></thead>
  <tbody><tr><td><p>a</p></td><td>1</td></tr><tr><td>b</td><td></td></tr></tbody></table>
  <ul><li>one<ul><li>inner</li></ul></li><li>two</li></ul>
  <form><p>Subscribe!</p></form>
</main>
<footer>Copyright</footer>
</body></html>"""


def test_the_main_text_is_read_under_its_headings():
    parsed, blocks = read(PAGE)
    assert parsed.title == "The Page"
    assert blocks == [
        ((), "First bold sentence. Second one. Third."),
        (("Code",), "```python\ndef f():\n    return 1 < 2\n```"),
        (("Data",), "c"),
        (("Data",), "| name | value |\n| --- | --- |\n| a | 1 |\n| b |  |"),
        (("Data",), "- one\n  - inner\n- two"),
    ]


def test_without_a_marked_main_part_navigation_and_footers_are_left_out():
    _, blocks = read(PAGE.replace("main>", "div>"))
    text = " ".join(text for _, text in blocks)
    assert "First bold" in text
    for noise in ("Home", "Copyright", "Subscribe", "var x", "color"):
        assert noise not in text
    assert blocks[0][0] == ("Welcome & hello",)


def test_an_article_is_a_main_part_and_an_empty_one_is_not():
    assert read("<p>out</p><article><p>in</p></article>")[1] == [((), "in")]
    assert read("<p>out</p><main></main>")[1] == [((), "out")]


def test_a_page_without_a_title_is_named_by_its_heading():
    assert read("<h1>Heading</h1><p>x</p>")[0].title == "Heading"


def test_hidden_parts_and_templates_are_left_out():
    _, blocks = read("<div hidden><p>no</p><div>no</div></div><template><p>no</p></template><p>yes</p>")
    assert blocks == [((), "yes")]


def test_tags_that_are_never_closed_do_no_harm():
    assert read("<p>one<p>two<ul><li>a<li>b")[1] == [((), "one"), ((), "two"), ((), "- a\n- b")]
    assert read("<table><tr><th>k<th>v<tr><td>x<td>y")[1] == [((), "| k | v |\n| --- | --- |\n| x | y |")]
    assert read("<title>never closed")[1] == []
    assert read("<script>never closed <p>x</p>")[1] == []
    assert read("</p></ul></table></main>text")[1] == [((), "text")]


def test_code_inside_a_list_or_a_table_stays_in_its_item():
    assert read("<ul><li>run <pre>make</pre></li></ul>")[1] == [((), "- run make")]


@given(st.lists(st.sampled_from([
    "<p>", "</p>", "<ul>", "<li>", "</li>", "</ul>", "<table>", "<tr>", "<td>", "</td>", "</tr>", "</table>", "<pre>",
    "</pre>", "<h2>", "</h2>", "<main>", "</main>", "<script>", "</script>", "<br>", "text", "&amp;", "<", "<!--", "-->",
    "<title>", "</title>", "<nav>", "</nav>",
]), max_size=30))  # fmt: skip
def test_any_soup_is_read_without_an_error(tags):
    parse_html(" ".join(tags))
