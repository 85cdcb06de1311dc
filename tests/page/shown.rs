//! What the page makes of an answer, whatever it is.

use std::time::Duration;

use serde_json::{Value, json};

use crate::fixtures::{HOSTILE, Stage, answer, blind, empty, hostile, well, wrong};
use crate::support::browser::TAB;
use crate::support::{SOON, wait};

/// From the narrowest phone to a wide screen.
const WIDTHS: [u32; 6] = [320, 360, 480, 768, 1024, 1920];

#[test]
fn what_is_wrong_stands_on_top_with_where_and_what_to_do() {
    let Some(stage) = Stage::set_or_skip("the page of a collector that is unwell") else { return };
    stage.show(&wrong());
    let page = &stage.browser;
    assert_eq!(page.text("#verdict-text"), "5 things are wrong");
    assert_eq!(page.run("return document.querySelector('#verdict').dataset.look"), "unwell");
    assert_eq!(
        page.text("#problems li:first-child"),
        "Batchers a batcher gave no sign of life for 43 s Start systole batch again."
    );
    // Each leads to where more of it stands, and the browser's tab says it too.
    for (n, place) in [(1, "#batchers-title"), (2, "#partitions-title"), (3, "#letters-title")] {
        let link =
            page.run(&format!("return document.querySelector('#problems li:nth-child({n}) a').getAttribute('href')"));
        assert_eq!(link, place);
    }
    assert_eq!(page.run("return document.title"), "(5) Systole: 5 things are wrong");
    for (stage, word) in [("buffer", "▲ 1 of 16 full"), ("batchers", "▲ 1 gone"), ("staging", "▲ 1 damaged")] {
        assert_eq!(page.text(&format!("#flag-{stage}")), word);
    }
    assert!(page.text("#partitions tbody tr:nth-child(4)").starts_with("3 100%, full 62,500"));
    assert!(page.text("#partitions tbody tr:nth-child(2)").contains("90%, nearly full"));
    assert!(page.text("#batchers tbody tr:first-child").starts_with("gone"), "those that are gone come first");
    assert!(page.text("#letters").contains("the checksum does not match"));
    assert!(page.text("#silent").contains("user-01 phone 6 min ago"));
    assert!(page.text("#disk").contains("too little: nothing is written"));
    assert!(page.text("#books").contains("does not balance"));
    stage.finish(&[]);
}

#[test]
fn a_part_that_is_not_known_is_said_to_be_so_and_hides_no_other() {
    let Some(stage) = Stage::set_or_skip("the page of a collector that sees little") else { return };
    stage.show(&blind());
    let page = &stage.browser;
    assert_eq!(
        page.text("#files-note"),
        "Staging and published files are not seen from here: this process was started without --data."
    );
    for part in ["#partitions-note", "#batchers-none", "#letters-none", "#silent-none", "#books-none"] {
        assert_eq!(page.text(part), "Not known at this moment.", "{part}");
    }
    assert_eq!(page.text("#buffer-waiting"), "–");
    assert!(page.text("#refused").contains("rate limited 812"));
    assert_eq!(page.run("return document.querySelector('#days-title').checkVisibility()"), false);
    stage.show(&empty());
    assert!(page.text("#first").contains("/v1/heartbeats"), "the first heartbeat is one command away");
    assert_eq!(page.text("#verdict-more"), "It is ready for the first heartbeat.");
    stage.finish(&[]);
}

#[test]
fn what_only_the_files_and_the_last_look_tell_stands_where_it_belongs() {
    let Some(stage) = Stage::set_or_skip("the page of a collector with files that wait") else { return };
    let page = &stage.browser;
    let mut status = well();
    let problem = |part: &str| json!({"part": part, "detail": "So it is.", "advice": "Do so."});
    status["verdict"] =
        json!({"well": false, "problems": [problem("publish lag"), problem("refused"), problem("disk")]});
    status["buffer"]["partitions"][3]["heartbeats"] = status["buffer"]["partitions"][3]["heartbeats_max"].clone();
    stage.show(&status);
    assert_eq!(page.text("#verdict-text"), "3 things are wrong", "what is full is told with what is refused");
    assert_eq!(page.text("#flag-staging"), "▲ waits too long");
    for (n, place) in [(1, "#publishes-title"), (2, "#refused-title"), (3, "#publishes-title")] {
        let link =
            page.run(&format!("return document.querySelector('#problems li:nth-child({n}) a').getAttribute('href')"));
        assert_eq!(link, place);
    }

    let mut status = well();
    status["files"]["disk"]["free_bytes"] = json!(700_000_000);
    stage.show(&status);
    assert_eq!(page.text("#verdict-text"), "It works; look at this");
    assert!(page.text("#problems").contains("668 MiB are left where the files stand"), "{}", page.text("#problems"));

    let mut status = well();
    status["files"] = Value::Null;
    status["files_unknown"] = json!("they cannot be read now: it is gone");
    status["verdict"] = json!({"well": false, "problems": [problem("dataset")]});
    stage.show(&status);
    let note = page.text("#files-note");
    assert_eq!(note, "Staging and published files are not seen from here: they cannot be read now: it is gone.");

    let mut status = well();
    status["buffer"]["looked_s"] = json!(28);
    status["batchers"][1]["alive"] = json!(false);
    stage.show(&status);
    let said = page.text("#verdict-more");
    assert!(said.starts_with("How many come in and what waits is not known since") && said.contains(':'), "{said}");
    assert!(page.text("#partitions-note").starts_with("As it was at"));
    assert_eq!(page.text("#flag-batchers"), "▲ as of 28 s ago");
    assert!(!page.text("#stage-batchers").contains("of 16 partitions"));
    stage.finish(&[]);
}

#[test]
fn names_that_strangers_chose_are_shown_as_text() {
    let Some(stage) = Stage::set_or_skip("hostile names on the page") else { return };
    stage.show(&hostile());
    let page = &stage.browser;
    let shown =
        page.run("return [...document.querySelectorAll('#silent tbody th .name')].map((name) => name.textContent)");
    assert_eq!(shown, json!(HOSTILE));
    assert_eq!(page.run("return document.querySelectorAll('main img, main script, main iframe').length"), 0);
    assert_eq!(page.run("return typeof window.robbed"), "undefined");
    // Were there a way to make markup, the policy would close it.
    let refused = page.run(
        "try { document.getElementById('about').innerHTML = '<b>x</b>'; return false } catch (error) { return error.name }",
    );
    assert_eq!(refused, "TypeError");
    stage.finish(&["TrustedHTML"]);
}

#[test]
fn no_width_needs_scrolling_sideways() {
    let Some(stage) = Stage::set_or_skip("the page on phones") else { return };
    let page = &stage.browser;
    for status in [well(), wrong(), empty(), blind(), hostile()] {
        page.resize(WIDTHS[0], 800);
        stage.show(&status);
        for width in WIDTHS {
            page.resize(width, 800);
            let too_wide = page.run(
                "const room = document.documentElement.clientWidth;
                 if (document.documentElement.scrollWidth <= room) return [];
                 return [...document.querySelectorAll('body *')].filter((node) => node.getBoundingClientRect().right > room + 1)
                   .map((node) => node.tagName + '#' + node.id + '.' + node.className);",
            );
            assert_eq!(too_wide, json!([]), "at {width}");
        }
    }
    stage.finish(&[]);
}

/// Every text against what lies behind it, by WCAG: below 4.5, or 3 where it is large.
const FAINT: &str = r"
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const rgb = (colour) => {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
      return canvas.getImageData(0, 0, 1, 1).data;
    };
    const light = ([r, g, b]) => {
      const part = (c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4);
      return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
    };
    const behind = (node) => {
      for (let at = node; at; at = at.parentElement) {
        const ground = rgb(getComputedStyle(at).backgroundColor);
        if (ground[3] === 255) return ground;
      }
      return [255, 255, 255];
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    const faint = [];
    let looked = 0;
    while (walker.nextNode()) {
      const node = walker.currentNode.parentElement;
      if (!walker.currentNode.data.trim() || !node.checkVisibility() || node.closest('.unseen, .skip, title, desc')) continue;
      const style = getComputedStyle(node);
      const [one, two] = [light(rgb(node instanceof SVGElement ? style.fill : style.color)), light(behind(node))];
      const contrast = (Math.max(one, two) + 0.05) / (Math.min(one, two) + 0.05);
      const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
      looked += 1;
      if (contrast < (large ? 3 : 4.5)) faint.push(walker.currentNode.data.trim() + ': ' + contrast.toFixed(2));
    }
    return { looked, faint };
";

#[test]
fn every_text_stands_out_from_its_ground_by_day_and_by_night() {
    let Some(stage) = Stage::set_or_skip("the contrast of the page") else { return };
    let page = &stage.browser;
    let mut grounds = Vec::new();
    for scheme in ["light", "dark"] {
        page.prefer("prefers-color-scheme", scheme);
        for status in [well(), wrong(), empty()] {
            stage.show(&status);
            let found = page.run(FAINT);
            assert!(found["looked"].as_u64().unwrap() > 100);
            assert_eq!(found["faint"], json!([]), "{scheme}");
        }
        stage.show_with(&answer(401, &json!({"detail": "no"})));
        page.await_text("#verdict-text", &["Log in"]);
        assert_eq!(page.run(FAINT)["faint"], json!([]), "{scheme}, logged out");
        grounds.push(page.run("return getComputedStyle(document.body).backgroundColor"));
    }
    assert_ne!(grounds[0], grounds[1], "night is another colour");
    stage.finish(&[]);
}

#[test]
fn every_control_is_reached_by_tab_and_seen_to_be() {
    let Some(stage) = Stage::set_or_skip("the page by keyboard") else { return };
    let page = &stage.browser;
    // As after a login, with the button to log out.
    page.prepare("localStorage.setItem('systole.logged-in', 'yes')");
    stage.show(&wrong());
    page.run("document.querySelector('.as-table').open = true");
    let controls = page.run(
        "const all = 'a[href], button, input, summary, [tabindex=\"0\"]';
         return [...document.querySelectorAll(all)].filter((node) => node.checkVisibility({ visibilityProperty: true }))
           .map((node, at) => { node.dataset.at = at; return at; }).length",
    );
    let controls = controls.as_u64().unwrap();
    assert!(controls > 10, "{controls}");
    for at in 0..controls {
        page.press(TAB);
        let focused = page.run(
            "const node = document.activeElement;
             const style = getComputedStyle(node);
             const box = node.getBoundingClientRect();
             return { at: Number(node.dataset.at), outline: parseFloat(style.outlineWidth), kind: style.outlineStyle,
                      seen: box.top < innerHeight && box.bottom > 0 && box.width > 0, what: node.outerHTML.slice(0, 90) }",
        );
        assert_eq!(focused["at"], at, "in the order of the page: {focused}");
        assert!(focused["outline"].as_f64().unwrap() >= 2.0 && focused["kind"] != "none", "{focused}");
        assert_eq!(focused["seen"], true, "{focused}");
    }
    // Landmarks, one heading of the first level, and none that leaves a level out.
    let levels =
        page.run("return [...document.querySelectorAll('h1, h2, h3, h4')].map((node) => Number(node.tagName[1]))");
    let levels: Vec<u64> = levels.as_array().unwrap().iter().map(|level| level.as_u64().unwrap()).collect();
    assert_eq!((levels[0], levels.iter().filter(|level| **level == 1).count()), (1, 1));
    assert!(levels.windows(2).all(|pair| pair[1] <= pair[0] + 1), "{levels:?}");
    assert_eq!(page.run("return document.querySelectorAll('header, main, footer').length"), 3);
    stage.finish(&[]);
}

#[test]
fn while_nobody_looks_nothing_is_asked() {
    let Some(stage) = Stage::set_or_skip("the page behind another tab") else { return };
    stage.show(&well());
    let page = &stage.browser;
    let asked = || page.run("return window.asked.filter(({ path }) => path === '/v1/status').length").as_u64().unwrap();
    wait::until("a second question", SOON, || asked() >= 2);
    // What another tab in front does to this one; the browser without a window shows all of its tabs.
    let hide = |hidden: bool| {
        page.run(&format!(
            "Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }});
             document.dispatchEvent(new Event('visibilitychange'));"
        ));
    };
    hide(true);
    let before = asked();
    wait::holds_for("silence", Duration::from_millis(4_500), || {
        if asked() == before { Ok(()) } else { Err("it asked".to_owned()) }
    });
    hide(false);
    wait::until("a question at once", Duration::from_secs(1), || asked() > before);
    stage.finish(&[]);
}

#[test]
fn what_is_old_is_said_to_be_and_asked_for_less_and_less() {
    let Some(stage) = Stage::set_or_skip("the page of a collector that went away") else { return };
    stage.show(&well());
    let page = &stage.browser;
    assert_eq!(page.text("#verdict-text"), "All is well");
    for path in ["/v1/status", "/v1/status/history"] {
        stage.answer(path, &Value::Null);
    }
    let said = page.await_text("#verdict-text", &["No answer since"]);
    assert!(page.text("#fresh").contains("no answer since") && said.contains(':'), "{said}");
    assert!(page.text("#verdict-more").contains("What stands below is as it was at"));
    assert_eq!(page.run("return document.querySelector('#verdict').dataset.look"), "unknown");
    page.await_text("#verdict-more", &["every 4 s"]);
    // It says why, where it is told.
    stage.answer("/v1/status", &answer(503, &json!({"detail": "The buffer cannot be reached."})));
    page.await_text("#verdict-more", &["The buffer cannot be reached."]);
    stage.answer("/v1/status", &answer(200, &well()));
    page.await_text("#verdict-text", &["All is well"]);
    stage.finish(&[]);
}

#[test]
fn the_lines_have_gaps_where_nothing_is_known_and_a_table_beside_them() {
    let Some(stage) = Stage::set_or_skip("the charts of the page") else { return };
    stage.show(&well());
    let page = &stage.browser;
    wait::until("the lines", SOON, || page.run("return document.querySelectorAll('.line').length") == 4);
    let pieces = page.run("return document.querySelector('.line.in').getAttribute('d').match(/M/g).length");
    assert_eq!(pieces, 2, "one gap");
    assert_eq!(page.run("return document.querySelectorAll('.day').length"), 30);
    let described = page.run(
        "return [...document.querySelectorAll('svg[role=img]')].every((chart) =>
           chart.getAttribute('aria-labelledby').split(' ').every((id) => document.getElementById(id).textContent.length > 3))",
    );
    assert_eq!(described, true);
    page.click("#hour-details summary");
    wait::until("twelve rows", SOON, || {
        page.run("return document.querySelectorAll('#hour-table tbody tr').length") == 12
    });
    page.click("#days-details summary");
    wait::until("thirty rows", SOON, || {
        page.run("return document.querySelectorAll('#days-table tbody tr').length") == 30
    });
    stage.finish(&[]);
}
