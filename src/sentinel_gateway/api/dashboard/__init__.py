"""`/dashboard`: pages for people, made here of what the API tells; nothing is shown or done that the API can't.

`frame.py` puts it together, `door.py` says who comes in (`sessions.py` remembers them), `pages.py` makes HTML, `live.py` keeps
what moves moving, `words.py` says figures, `static.py` has files. Each page is a `Screen` in a file of its own, with a template
of the same name. Browsers run `static/dashboard.js` and what is vendored beside it, and nothing else: the policy forbids the
rest.
"""
