// A link from elsewhere comes without the session's cookie (SameSite=Strict). If this browser is signed in after all, the page that
// was asked for is there when it is asked for again from here.
"use strict";
if (location.pathname !== "/dashboard/sign-in" && !document.getElementById("why")) {
  fetch(location.href, { method: "HEAD", credentials: "same-origin", redirect: "error" })
    .then((answer) => { if (answer.ok) location.reload(); })
    .catch(() => {});
}
