//! The pictures of a report, as SVG: each is left out where there is nothing to show.
//!
//! Names of tasks stand beside horizontal bars, so that many and long ones fit. Colours are those of Okabe and Ito, which
//! people with any colour vision tell apart.

use std::error::Error;
use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::document::Plot;
use super::format::{arithmetic_mean, geometric_mean, mean_length, number, printable};
use super::selection::{find, policies, warmths};
use crate::results::{LookaheadResults, Results, Spread, TaskResults};
use crate::setting::Warmth;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;
type Drawn = Result<(), Box<dyn Error>>;

/// The width of each picture, in pixels.
const WIDTH: u32 = 900;
/// The longest name of a task that is shown in full, in characters.
const NAME_CHARS: usize = 40;
/// The longest accepted length with a bar of its own.
const ACCEPTED: usize = 16;
/// As many tasks have a line each.
const LINES: usize = 8;

const TEXT: RGBColor = RGBColor(0x30, 0x38, 0x40);
const GRID: RGBColor = RGBColor(0xdd, 0xe1, 0xe5);
const BLUE: RGBColor = RGBColor(0x00, 0x72, 0xb2);
const ORANGE: RGBColor = RGBColor(0xe6, 0x9f, 0x00);
const GREEN: RGBColor = RGBColor(0x00, 0x9e, 0x73);
const PINK: RGBColor = RGBColor(0xcc, 0x79, 0xa7);
const COLOURS: [RGBColor; LINES] = [
    BLUE,
    ORANGE,
    GREEN,
    PINK,
    RGBColor(0x56, 0xb4, 0xe9),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0x8a, 0x81, 0x1c),
    RGBColor(0x99, 0x99, 0x99),
];

/// How many times as fast each task is, for each of what was learned, with the first policy.
pub(super) fn speed_up(results: &Results) -> Option<Plot> {
    let policy = *policies(results).first()?;
    let warmths = warmths(results, policy);
    let groups = results.tasks.iter().map(|task| {
        let bars = warmths.iter().map(|&warmth| Some(find(task, policy, warmth)?.speed_up));
        (task.task.as_str(), bars.collect())
    });
    let series: Vec<_> = warmths.iter().map(|&warmth| (warmth.as_str().to_owned(), colour(warmth))).collect();
    let title = "Speed-up by task";
    Some(Plot {
        name: "speed-up",
        title,
        caption: format!(
            "Policy {policy}: time of plain decoding over time with Lookahead. Bars are medians, whiskers the least and the greatest repeat."
        ),
        svg: bars(title, "times as fast as plain decoding", &series, &groups.collect::<Vec<_>>()),
    })
}

/// Tokens per pass with drafts from the prompt only, from earlier answers only, and from both.
pub(super) fn source(results: &Results) -> Option<Plot> {
    let all = policies(results);
    let (base, sources) = all.iter().find_map(|policy| {
        let base = without_source(policy);
        let of_source = |source: &str| {
            all.iter().copied().find(|other| {
                let has = |source| other.split(':').any(|part| part == source);
                let is_of = if source.is_empty() { !has("prompt") && !has("output") } else { has(source) };
                is_of && without_source(other) == base
            })
        };
        let sources = [
            ("prompt only", "prompt", BLUE),
            ("earlier answers only", "output", ORANGE),
            ("both", "", GREEN),
        ]
        .into_iter()
        .filter_map(|(label, source, colour)| Some((label, of_source(source)?, colour)))
        .collect::<Vec<_>>();
        (sources.len() > 1).then_some((base, sources))
    })?;
    let warmth = [Warmth::Same, Warmth::Online, Warmth::Other, Warmth::Cold].into_iter().find(|&warmth| {
        results
            .tasks
            .iter()
            .any(|task| sources.iter().all(|(_, policy, _)| find(task, policy, warmth).is_some()))
    })?;
    let groups = results.tasks.iter().map(|task| {
        let exact = |value| Spread { median: value, min: value, max: value };
        let bars = sources.iter().map(|(_, policy, _)| Some(exact(find(task, policy, warmth)?.edl)));
        (task.task.as_str(), bars.collect())
    });
    let series: Vec<_> = sources.iter().map(|(label, _, colour)| ((*label).to_owned(), *colour)).collect();
    let title = "Acceptance by source of the drafts";
    Some(Plot {
        name: "source",
        title,
        caption: format!(
            "Policy {base}, {}: tokens per forward pass by what drafts are made from.",
            warmth.as_str()
        ),
        svg: bars(title, "EDL, tokens per forward pass", &series, &groups.collect::<Vec<_>>()),
    })
}

/// What a policy is called but for what it drafts from.
fn without_source(policy: &str) -> String {
    let parts = policy.split(':').filter(|part| !matches!(*part, "prompt" | "output" | "mixed"));
    parts.collect::<Vec<_>>().join(":")
}

/// Horizontal bars in groups from top to bottom, with a line at 1.
fn bars(
    title: &str,
    what: &str,
    series: &[(String, RGBColor)],
    groups: &[(&str, Vec<Option<Spread>>)],
) -> Result<String, String> {
    const BAR: f64 = 14.0;
    let group_pixels = BAR * series.len() as f64 + 12.0;
    let names: Vec<String> = groups.iter().map(|(name, _)| shorten(name)).collect();
    let name_pixels = names.iter().map(|name| text_pixels(name)).max().unwrap_or(0) + 16;
    let spreads = || groups.iter().flat_map(|(_, bars)| bars).flatten();
    let right = end(spreads().flat_map(|spread| [spread.median, spread.max]), 1.2);
    let height = (group_pixels * groups.len() as f64) as u32 + 56;
    draw(title, series, height, |area| {
        let mut chart = ChartBuilder::on(area)
            .margin_right(52)
            .x_label_area_size(52)
            .y_label_area_size(name_pixels)
            .build_cartesian_2d(0.0..right, 0.0..groups.len() as f64)?;
        let mut mesh = chart.configure_mesh();
        mesh.disable_y_mesh().y_labels(0).x_desc(what);
        mesh.x_labels(10)
            .x_label_formatter(&|&value| tick(value))
            .axis_desc_style(font(13))
            .label_style(font(12));
        mesh.axis_style(TEXT).light_line_style(TRANSPARENT).bold_line_style(GRID).draw()?;
        let plane = chart.plotting_area();
        for (index, ((_, bars), name)) in groups.iter().zip(&names).enumerate() {
            let middle = (groups.len() - index) as f64 - 0.5;
            let style = font(12).pos(Pos::new(HPos::Right, VPos::Center));
            plane.draw(&(EmptyElement::at((0.0, middle)) + Text::new(name.clone(), (-8, 0), style)))?;
            for (place, (bar, (_, colour))) in bars.iter().zip(series).enumerate() {
                let Some(spread) = bar.filter(|spread| is_shown(spread.median)) else { continue };
                let y = middle + ((series.len() as f64 - 1.0) / 2.0 - place as f64) * BAR / group_pixels;
                let half = 0.42 * BAR / group_pixels;
                plane.draw(&Rectangle::new([(0.0, y - half), (spread.median, y + half)], colour.filled()))?;
                let mut tip = spread.median;
                if is_shown(spread.min) && is_shown(spread.max) && spread.min < spread.max {
                    let cap = half / 2.0;
                    for (a, b) in [
                        ((spread.min, y), (spread.max, y)),
                        ((spread.min, y - cap), (spread.min, y + cap)),
                        ((spread.max, y - cap), (spread.max, y + cap)),
                    ] {
                        plane.draw(&PathElement::new([a, b], TEXT))?;
                    }
                    tip = tip.max(spread.max);
                }
                let style = font(11).pos(Pos::new(HPos::Left, VPos::Center));
                let value = Text::new(number(spread.median, 2), (5, 0), style);
                plane.draw(&(EmptyElement::at((tip, y)) + value))?;
            }
        }
        plane.draw(&PathElement::new([(1.0, 0.0), (1.0, groups.len() as f64)], TEXT.stroke_width(2)))?;
        Ok(())
    })
}

/// Each point of the cost curve: tokens, milliseconds, and how many times those of one token they are.
pub(super) fn relative_curve(results: &Results) -> Vec<(usize, f64, f64)> {
    let points = &results.curve;
    let one =
        points.iter().find(|point| point.tokens == 1).or(points.first()).map_or(f64::NAN, |point| point.ms);
    points.iter().map(|point| (point.tokens, point.ms, point.ms / one)).collect()
}

/// The time of a forward pass by its tokens.
pub(super) fn cost_curve(results: &Results) -> Option<Plot> {
    let points: Vec<(f64, f64)> = relative_curve(results)
        .into_iter()
        .map(|(tokens, _, relative)| (tokens as f64, relative))
        .filter(|(_, relative)| is_shown(*relative))
        .collect();
    let last = points.iter().map(|point| point.0).fold(f64::NAN, f64::max);
    if last.is_nan() {
        return None;
    }
    let top = end(points.iter().map(|point| point.1), 1.5);
    let title = "Cost of a forward pass";
    let svg = draw(title, &[], 360, |area| {
        let axes = ("tokens in the pass, N", "time relative to one token, c(N)");
        let mut chart = plane(area, 0.0..last * 1.04 + 1.0, 0.0..top, axes)?;
        chart.draw_series(LineSeries::new(points.iter().copied(), BLUE.stroke_width(2)))?;
        chart.draw_series(points.iter().map(|&point| Circle::new(point, 4, BLUE.filled())))?;
        Ok(())
    });
    let caption =
        "How many times as long as a pass of one token a pass of N tokens takes: what a draft costs.";
    Some(Plot { name: "cost-curve", title, caption: caption.to_owned(), svg })
}

/// Tokens per pass by the mean draft length of several policies.
pub(super) fn draft_length(results: &Results) -> Option<Plot> {
    let all = policies(results);
    let mut lines = Vec::new();
    for warmth in [Warmth::Cold, Warmth::Same] {
        let points = all.iter().filter_map(|policy| {
            let of_policy = || results.tasks.iter().filter_map(|task| find(task, policy, warmth));
            let length = arithmetic_mean(of_policy().map(|ours| mean_length(&ours.draft_lengths)));
            let edl = geometric_mean(of_policy().map(|ours| ours.edl));
            (length < 1e5 && is_shown(edl)).then_some((*policy, length, edl))
        });
        lines.push((warmth, points.collect::<Vec<(&str, f64, f64)>>()));
    }
    lines.retain(|(_, points)| points.len() > 1);
    let points = || lines.iter().flat_map(|(_, points)| points);
    points().next()?;
    let right = end(points().map(|point| point.1), 1.0);
    let top = end(points().map(|point| point.2), 1.5);
    let legend: Vec<_> =
        lines.iter().map(|(warmth, _)| (warmth.as_str().to_owned(), colour(*warmth))).collect();
    let title = "Tokens per pass by draft length";
    let svg = draw(title, &legend, 420, |area| {
        let axes = ("mean draft length, tokens", "EDL, tokens per forward pass");
        let chart = plane(area, 0.0..right, 0.0..top, axes)?;
        let pixel = |&(_, x, y): &(&str, f64, f64)| chart.backend_coord(&(x, y));
        // What labels must not cover: the points, then each other.
        let mut taken: Vec<Box4> = points().map(pixel).map(|(x, y)| (x - 5, y - 5, x + 5, y + 5)).collect();
        for (warmth, points) in &lines {
            let style = colour(*warmth).filled();
            for point in points {
                chart.plotting_area().draw(&Circle::new((point.1, point.2), 5, style))?;
                if let Some((x, y)) = label_place(pixel(point), text_pixels(&shorten(point.0)), &taken) {
                    let width = text_pixels(&shorten(point.0)) as i32;
                    let (left, top) = (pixel(point).0 + x, pixel(point).1 + y);
                    taken.push((left, top - 7, left + width, top + 7));
                    let style = font(12).pos(Pos::new(HPos::Left, VPos::Center));
                    let label = Text::new(shorten(point.0), (x, y), style);
                    chart.plotting_area().draw(&(EmptyElement::at((point.1, point.2)) + label))?;
                }
            }
        }
        Ok(())
    });
    let caption = "A point a policy, the mean of all tasks: longer drafts cost more and are worth more only while they are accepted.";
    Some(Plot { name: "draft-length", title, caption: caption.to_owned(), svg })
}

/// Left, top, right and bottom, in pixels.
type Box4 = (i32, i32, i32, i32);

/// Where a label of `width` beside a point at `at` covers nothing that is taken, relative to the point: its left end, and
/// its middle line.
fn label_place(at: (i32, i32), width: u32, taken: &[Box4]) -> Option<(i32, i32)> {
    let width = width as i32;
    let places = [0, -14, 14, -26, 26, -38, 38].into_iter().flat_map(|y| {
        let xs = if y == 0 { [8, -8 - width, 8] } else { [-width / 2, 4, -4 - width] };
        xs.map(|x| (x, y))
    });
    let mut places = places.filter(|&(x, y)| {
        let (left, top, right, bottom) = (at.0 + x, at.1 + y - 7, at.0 + x + width, at.1 + y + 7);
        left > 60
            && right < WIDTH as i32
            && taken
                .iter()
                .all(|taken| left >= taken.2 || right <= taken.0 || top >= taken.3 || bottom <= taken.1)
    });
    places.next()
}

/// How many draft tokens a pass accepts, with the first policy.
pub(super) fn accepted_length(results: &Results) -> Option<Plot> {
    let policy = *policies(results).first()?;
    let mut series: Vec<(Warmth, Vec<f64>)> = [Warmth::Cold, Warmth::Same]
        .into_iter()
        .filter_map(|warmth| {
            let mut counts = [0u64; ACCEPTED + 1];
            for ours in results.tasks.iter().filter_map(|task| find(task, policy, warmth)) {
                for (length, &count) in ours.accepted_lengths.iter().enumerate() {
                    let count_of_length = &mut counts[length.min(ACCEPTED)];
                    *count_of_length = count_of_length.saturating_add(count);
                }
            }
            let steps: f64 = counts.iter().map(|&count| count as f64).sum();
            (steps > 0.0).then(|| (warmth, counts.map(|count| 100.0 * count as f64 / steps).to_vec()))
        })
        .collect();
    // The bars of lengths that next to no pass reaches become one.
    let share_from = |shares: &[f64], length: usize| shares[length..].iter().sum::<f64>();
    let reached_by = |least: f64| {
        let longest = |shares: &[f64]| (0..=ACCEPTED).rfind(|&length| share_from(shares, length) > least);
        series.iter().filter_map(|(_, shares)| longest(shares)).max()
    };
    let (longest, is_cut) = (reached_by(1.0)?, reached_by(1.0) < reached_by(0.0));
    for (_, shares) in &mut series {
        shares[longest] = share_from(shares, longest);
        shares.truncate(longest + 1);
    }
    let top = end(series.iter().flat_map(|(_, shares)| shares).copied(), 1.0).min(100.0);
    let legend: Vec<_> =
        series.iter().map(|(warmth, _)| (warmth.as_str().to_owned(), colour(*warmth))).collect();
    let title = "Accepted draft tokens of a pass";
    let svg = draw(title, &legend, 360, |area| {
        let axes = ("accepted draft tokens", "share of forward passes, %");
        let label = |x: &f64| match x.round() as usize {
            length if (x - x.round()).abs() > 1e-6 || *x < 0.0 || length > longest => String::new(),
            length if length == longest && (is_cut || length == ACCEPTED) => format!("≥ {length}"),
            length => length.to_string(),
        };
        let chart = plane_with(area, (-0.6..longest as f64 + 0.6, 0.0..top), axes, longest + 3, &label)?;
        let width = 0.8 / series.len() as f64;
        for (place, (warmth, shares)) in series.iter().enumerate() {
            for (length, &share) in shares.iter().enumerate() {
                let left = length as f64 - 0.4 + place as f64 * width;
                let style = colour(*warmth).filled();
                let corners = [(left, 0.0), (left + width * 0.94, share)];
                chart.plotting_area().draw(&Rectangle::new(corners, style))?;
            }
        }
        Ok(())
    });
    let caption =
        format!("Policy {policy}, the passes of all tasks: each yields one token more than it accepts.");
    Some(Plot { name: "accepted-length", title, caption, svg })
}

/// How it becomes faster as it learns, with the first policy.
pub(super) fn online(results: &Results) -> Option<Plot> {
    let policy = *policies(results).first()?;
    let of_task =
        |task| find(task, policy, Warmth::Online).filter(|ours: &&LookaheadResults| !ours.online.is_empty());
    let tasks: Vec<(&TaskResults, &LookaheadResults)> =
        results.tasks.iter().filter_map(|task| Some((task, of_task(task)?))).collect();
    let last = tasks.iter().flat_map(|(_, ours)| &ours.online).map(|point| point.served).max()?;
    let has_lines = (2..=LINES).contains(&tasks.len());
    let mean = if tasks.len() == 1 { shorten(&tasks[0].0.task) } else { "mean of the tasks".to_owned() };
    let mut legend = vec![(mean, TEXT)];
    if has_lines {
        legend.extend(tasks.iter().zip(COLOURS).map(|((task, _), colour)| (shorten(&task.task), colour)));
    }
    // Of each panel: its axis, and the points of each task.
    let panels = [("speed-up", true), ("EDL, tokens per forward pass", false)].map(|(what, is_speed_up)| {
        let lines = tasks.iter().map(|(_, ours)| {
            let points = ours
                .online
                .iter()
                .map(|point| (point.served, if is_speed_up { point.speed_up } else { point.edl }));
            points.filter(|(_, value)| is_shown(*value)).collect::<Vec<(usize, f64)>>()
        });
        (what, lines.collect::<Vec<_>>())
    });
    let title = "Learning online";
    let svg = draw(title, &legend, 340, |area| {
        for (area, (what, lines)) in area.split_evenly((1, 2)).into_iter().zip(&panels) {
            let mean = mean_line(lines);
            let shown = lines.iter().filter(|_| has_lines).flatten().chain(&mean);
            let top = end(shown.map(|point| point.1), 1.5);
            let axes = ("requests served before", *what);
            let mut chart = plane(&area, 0.0..last as f64 * 1.03 + 0.1, 0.0..top, axes)?;
            let coordinates =
                |points: &[(usize, f64)]| points.iter().map(|&(x, y)| (x as f64, y)).collect::<Vec<_>>();
            for (line, colour) in lines.iter().filter(|_| has_lines).zip(COLOURS) {
                chart.draw_series(LineSeries::new(coordinates(line), colour.mix(0.7)))?;
            }
            chart.draw_series(LineSeries::new(coordinates(&mean), TEXT.stroke_width(3)))?;
            let ends = coordinates(&mean).into_iter().filter(|_| mean.len() == 1);
            chart.draw_series(ends.map(|point| Circle::new(point, 4, TEXT.filled())))?;
        }
        Ok(())
    });
    let caption = format!(
        "Policy {policy}: requests of a task one after the other, each learned from before the next. The mean is over the \
         tasks that have as many requests, where at least half of them do."
    );
    Some(Plot { name: "online", title, caption, svg })
}

/// The geometric mean of `lines` at each place that at least half of them have.
fn mean_line(lines: &[Vec<(usize, f64)>]) -> Vec<(usize, f64)> {
    let mut places: Vec<usize> = lines.iter().flatten().map(|point| point.0).collect();
    places.sort_unstable();
    places.dedup();
    let points = places.into_iter().filter_map(|place| {
        let values = lines.iter().filter_map(|line| line.iter().find(|point| point.0 == place));
        let values: Vec<f64> = values.map(|point| point.1).collect();
        (2 * values.len() >= lines.len()).then(|| (place, geometric_mean(values)))
    });
    points.collect()
}

fn colour(warmth: Warmth) -> RGBColor {
    match warmth {
        Warmth::Cold => BLUE,
        Warmth::Same => ORANGE,
        Warmth::Other => GREEN,
        Warmth::Online => PINK,
    }
}

/// A picture: a title, a legend, and below them what `paint` draws in an area of `height`.
fn draw(
    title: &str,
    legend: &[(String, RGBColor)],
    height: u32,
    paint: impl FnOnce(&Area<'_>) -> Drawn,
) -> Result<String, String> {
    let mut entries: Vec<(i32, i32)> = Vec::new();
    let (mut x, mut y) = (16, 50);
    for (label, _) in legend {
        let width = text_pixels(label) as i32 + 40;
        if x + width > WIDTH as i32 && x > 16 {
            (x, y) = (16, y + 20);
        }
        entries.push((x, y));
        x += width;
    }
    let head = if legend.is_empty() { 44 } else { y + 18 };
    let mut svg = String::new();
    let drawn = || -> Drawn {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, head as u32 + height)).into_drawing_area();
        root.fill(&WHITE)?;
        let bold = ("sans-serif", 16.0 * SCALE, FontStyle::Bold).into_font().color(&TEXT);
        root.draw(&Text::new(title.to_owned(), (16, 14), bold))?;
        for ((label, colour), (x, y)) in legend.iter().zip(entries) {
            root.draw(&Rectangle::new([(x, y - 6), (x + 12, y + 6)], colour.filled()))?;
            let style = font(12).pos(Pos::new(HPos::Left, VPos::Center));
            root.draw(&Text::new(label.clone(), (x + 18, y), style))?;
        }
        paint(&root.split_vertically(head).1)?;
        root.present()?;
        Ok(())
    }();
    drawn.map_err(|error| error.to_string())?;
    Ok(svg)
}

/// A chart with both axes, each with what it shows.
fn plane<'b>(
    area: &Area<'b>,
    x: Range<f64>,
    y: Range<f64>,
    axes: (&str, &str),
) -> Result<Chart<'static, 'b>, Box<dyn Error>> {
    plane_with(area, (x, y), axes, 10, &|&value| tick(value))
}

/// As [`plane`], with up to `labels` of the form `label` below it.
fn plane_with<'b>(
    area: &Area<'b>,
    (x, y): (Range<f64>, Range<f64>),
    axes: (&str, &str),
    labels: usize,
    label: &dyn Fn(&f64) -> String,
) -> Result<Chart<'static, 'b>, Box<dyn Error>> {
    let mut builder = ChartBuilder::on(area);
    builder.margin(6).margin_left(16).margin_right(20).x_label_area_size(52).y_label_area_size(64);
    let mut chart = builder.build_cartesian_2d(x, y)?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(axes.0).y_desc(axes.1).axis_desc_style(font(13)).label_style(font(12));
    mesh.x_labels(labels).x_label_formatter(label).y_labels(8).y_label_formatter(&|&value| tick(value));
    mesh.axis_style(TEXT).light_line_style(TRANSPARENT).bold_line_style(GRID).draw()?;
    Ok(chart)
}

/// Whether a value has a place in a picture. What is greater is a fault of the measurement, and would hide all others.
fn is_shown(value: f64) -> bool {
    value > 0.0 && value < 1e5
}

/// The end of an axis for `values`: a little more than the greatest, and no less than `least`.
fn end(values: impl Iterator<Item = f64>, least: f64) -> f64 {
    values.filter(|&value| is_shown(value)).fold(least, |end, value| end.max(value * 1.05))
}

/// A number at an axis, without zeros at its end.
fn tick(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// plotters writes sizes into SVG divided by this.
const SCALE: f64 = 1.24;

fn font(pixels: u32) -> TextStyle<'static> {
    ("sans-serif", f64::from(pixels) * SCALE).into_font().color(&TEXT)
}

/// About as wide is `text` in a font of 12 pixels: what draws it knows, this does not.
fn text_pixels(text: &str) -> u32 {
    (text.chars().count() as f64 * 7.2) as u32
}

/// The name of a task, cut to what fits.
fn shorten(name: &str) -> String {
    let name = printable(name);
    if name.chars().count() <= NAME_CHARS {
        return name;
    }
    name.chars().take(NAME_CHARS - 1).chain(['…']).collect()
}
